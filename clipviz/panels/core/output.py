"""What a cell's output carries where no front end answers, as under nbconvert and papermill: the saved page.

The page stands in the output as one compressed text, which its own script opens in a frame. Where scripts do not run
(GitHub's viewer), pictures of the panels are seen instead.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import io
import json
from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

from PIL import Image

from clipviz.panels.core import standalone
from clipviz.panels.core.stored import Kept


class Pictured(Protocol):
    """The attributes of a panel that its picture needs."""

    name: str
    wide: ClassVar[bool]

    def figure(self, width: float) -> Any: ...


N_LAYERS = 2  # whose heads the page of an output answers, the last ones
DPI = 110

OPEN = """
(async () => {
  const place = document.querySelector('#NAME:not([data-opened])');
  if (!place) return;
  place.dataset.opened = 'true';
  const packed = Uint8Array.from(atob('PACKED'), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream('gzip'));
  const frame = document.createElement('iframe');
  frame.title = TITLE;
  frame.style.cssText = 'width: 100%; height: 640px; border: 0; display: block';
  frame.srcdoc = await new Response(stream).text();
  place.querySelector('[data-picture]').replaceWith(frame);
})();
"""


def in_cell(
    panels: Sequence[standalone.Saveable], title: str, extra: Sequence[str], pictured: Sequence[Pictured]
) -> str:
    """Return the HTML of a cell's output once the panels show the newest selection: their saved page.

    pictured: the panels that are seen as pictures until the page is open. It answers the heads of the last
    N_LAYERS layers.
    """
    session = panels[0].session
    try:
        standalone.wait_for(panels)
    except ValueError as error:
        return f"<p>{html.escape(str(error))}</p>"
    n_layers, n_heads = session.model.n_layers, session.model.n_heads
    late = [(layer, head) for layer in range(n_layers)[-N_LAYERS:] for head in range(n_heads)]
    page = standalone.page(panels, title, extra, Kept.of(session, heads=late)).encode()
    packed = base64.b64encode(gzip.compress(page, mtime=0)).decode()
    name = f"clipviz-{hashlib.sha256(page).hexdigest()[:12]}"
    script = OPEN.replace("NAME", name).replace("TITLE", json.dumps(title.replace("<", "‹")))
    seen = "".join(picture(panel) for panel in pictured)
    still = "A picture: this" if seen else "This"
    told = f"{still} viewer runs no scripts. The notebook, run in Jupyter or opened in nbviewer, shows the panel."
    return (
        f'<div id="{name}" class="clipviz-output"><div data-picture>{seen}<p><small>{told}</small></p></div>'
        f"<script>{script.replace('PACKED', packed)}</script></div>"
    )


def picture(panel: Pictured) -> str:
    """Return the figure of a panel as an element; "" for a panel that has none."""
    try:
        figure = panel.figure(7.0 if panel.wide else 3.4)
    except ValueError:
        return ""
    drawn, stored = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=DPI)
    Image.open(drawn).convert("RGB").save(stored, "WEBP", quality=80, method=6)
    content = base64.b64encode(stored.getvalue()).decode()
    return f'<img alt="Figure of the panel {panel.name}" src="data:image/webp;base64,{content}">'
