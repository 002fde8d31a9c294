"""clipviz.publish: write a session as a folder of static files, the board with the model inside."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from clipviz.data.texts import TEMPLATES
from clipviz.files import write_whole
from clipviz.lens.percentiles import FAR, THINGS
from clipviz.page import vendor
from clipviz.page.carrying import carry
from clipviz.page.export import Precision, check_carried, check_exporter, in_precision, memory_needed
from clipviz.page.packing import Folder, manifest
from clipviz.panels import Dashboard
from clipviz.panels.core.base import DESKS, Panel
from clipviz.panels.core.pictures import title
from clipviz.panels.core.scripts import ordered, text
from clipviz.panels.core.standalone import traits
from clipviz.session import Session
from clipviz.session.topics.heads import FOUND
from clipviz.values import N_LATE, Task
from clipviz.version import __version__

N_IMAGES = 240
LIVE = ("query", "images", "heatmap", "heads", "textspan", "receipts", "ablate")
"""Panels that the page answers by itself."""

POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; connect-src 'self'; "
    "style-src 'self'; img-src 'self' blob: data:; base-uri 'none'; form-action 'none'"
)
"""The page's content security policy: nothing is loaded from or sent to other hosts."""


def publish(
    session: Session,
    path: str | Path,
    *,
    model: bool = True,
    precision: Precision = "float32",
    images: int | Sequence[int] = N_IMAGES,
    desks: Sequence[str] = ("ablate",),
    title: str | None = None,
) -> Path:
    """Write the board of a session with its model inside as a folder that any web server can serve; return the
    folder.

    In the page, readers type texts and drop, paste or photograph pictures, and every head, token and text
    responds without Python. Nothing leaves the browser.

    path: a folder, new, empty, or one that was published before. model=False writes the saved page alone, as
    Dashboard.save_html does. precision: "float32", or "float16" for weights rounded to half precision, which take
    half the space; the page computes in float32 either way. images: the images to publish, or their number,
    evenly spaced over the collection; TextSpan, search and ablations use these. desks: names of desks below the
    board; "ablate" answers in the page, the others ("neurons", "rosetta", ...) compute with Python and are shown
    in their current state. Needs clipviz[web]. Raises ValueError for a folder with other content, for unknown
    images and desks, and CannotExport, with the reason, for a model that cannot be published.
    """
    folder = _folder(path)
    if not model:
        dashboard = Dashboard(session)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            dashboard.save_html(folder / "index.html")
        finally:
            _close(dashboard)
        return folder
    check_exporter()
    unknown = [name for name in desks if name not in DESKS]
    if unknown:
        raise ValueError(f"expected desks among {', '.join(DESKS)}, got {unknown[0]!r}")
    chosen = _chosen(session, images)
    check_carried(session.model)
    print(
        f"publishing {session.model.name}: the page will need about {memory_needed(session.model) / 1e9:.1f} GB of a "
        "browser's memory"
    )
    with _published(session, chosen, precision) as shown:
        _write(shown, folder, precision, desks, title)
    return folder


def _folder(path: str | Path) -> Path:
    folder = Path(path).expanduser()
    if folder.exists() and not folder.is_dir():
        raise ValueError(
            f"expected a folder to publish in, got the file {str(folder)!r}; choose another path"
        )
    known = ("manifest.json", "index.html")
    if folder.is_dir() and any(folder.iterdir()) and not any((folder / name).exists() for name in known):
        raise ValueError(
            f"expected a new, an empty or a published folder, got {str(folder)!r} with other files; "
            "choose another folder"
        )
    return folder


def _chosen(session: Session, images: int | Sequence[int]) -> list[int]:
    """Return the images to publish, in the collection's order, including the selected one."""
    n_images = len(session.images)
    if isinstance(images, int):
        if images < 2:
            raise ValueError(f"expected at least 2 images to publish, got {images}")
        some = {round(i) for i in np.linspace(0, n_images - 1, min(images, n_images)).tolist()}
    else:
        some = set(images)
        outside = [i for i in some if not 0 <= i < n_images]
        if outside:
            raise ValueError(f"expected images within 0..{n_images - 1}, got {outside[0]}")
    selected = session.selection.image
    if selected is not None and selected not in some:
        if isinstance(images, int) and len(some) >= images:
            some.remove(min(some, key=lambda i: abs(i - selected)))
        some.add(selected)
    return sorted(some)


@contextmanager
def _published(session: Session, chosen: list[int], precision: Precision) -> Iterator[Session]:
    """Return a session of the published data: the model as the page computes with it, and the chosen images."""
    model, place = in_precision(session.model, precision), {image: i for i, image in enumerate(chosen)}
    shown = Session(
        model,
        images=session.images.opened.subset(chosen),
        texts=session.texts,
        layers=range(model.n_layers),
        background=False,
    )
    try:
        broken = shown.images.codes.broken
        if broken:
            raise ValueError(
                f"expected images that can be read, got {len(broken)} that cannot, the first because "
                f"{next(iter(broken.values()))}; exclude them with images=..."
            )
        s = session.selection
        shown.selection = s.replace(
            image=None if s.image is None else place[s.image],
            images=tuple(place[i] for i in s.images if i in place),
            neuron=None,
            concept=None,
            ablation=type(s.ablation)(),
        )
        yield shown
    finally:
        shown.close()


def _write(
    shown: Session, folder: Path, precision: Precision, desks: Sequence[str], heading: str | None
) -> None:
    (folder / "parts").mkdir(parents=True, exist_ok=True)
    parts = Folder(folder / "parts")
    (folder / "manifest.json").unlink(missing_ok=True)  # an incomplete page has none
    said = carry(shown, parts, precision)
    contents = said["contents"]
    contents["runtime"] = parts.add(vendor.runtime())
    heading = heading or f"clipviz · {shown.model.name}"
    board, css = _board(shown, desks, heading)
    contents["board"] = parts.add(_json(board))
    contents["about"] = parts.add(_json(_about(shown)))
    classes = {name: shown.ablation.classifier(task) for name, task in _tasks(shown).items()}
    if classes:
        contents["tasks"] = parts.add_arrays(
            {name: made.float().cpu().numpy() for name, made in classes.items() if made is not None}
        )
    masks = _masks(shown)
    if masks is not None:
        contents["masks"] = parts.add(masks)
    _scripts(folder, board, css, said["tokens"]["kind"])
    write_whole(folder / "index.html", _page(heading).encode())
    parts.keep_only_these()
    manifest(folder / "manifest.json", said)


def _board(shown: Session, desks: Sequence[str], heading: str) -> tuple[dict[str, Any], str]:
    """Return what the page shows before the model is loaded: the panels as they are, and their style sheets."""
    shown.heads.summaries()
    dashboard = Dashboard(shown, tour=())
    try:
        shown.wait(None, background=True)
        panels: dict[str, Panel] = {panel.name: panel for panel in dashboard.panels}
        for name in desks:
            desk = dashboard.desks.show(name)
            assert desk is not None
            shown.wait(None, background=True)
            panels[name] = desk
        drawn = [
            {"name": name, "live": name in LIVE, "traits": _elsewhere(name, traits(panel))}
            for name, panel in panels.items()
        ]
        css = _styles([str(dashboard.desks._css), *(str(panel._css) for panel in panels.values())])
    finally:
        _close(dashboard)
    return {
        "title": heading,
        "selection": shown.selection.to_dict(),
        "panels": drawn,
        "desks": [[name, DESKS[name].title, DESKS[name].question] for name in desks],
        "foot": f"{shown.provenance()} · published with clipviz {__version__}",
    }, css


def _elsewhere(name: str, drawn: dict[str, Any]) -> dict[str, Any]:
    """Return a panel's traits, without those that the page cannot answer, and with the browser as device."""
    views: dict[str, dict[str, Any]] = {
        "heatmap": {"baselines": [], "ignoring": [], "neuron_layers": []},
        "query": {"device": "this browser"},
        "receipts": {"device": "this browser (WebAssembly)", "notes": [], "index": ""},
        "ablate": {"has_token": False, "apart": {"mlps": [], "token": False}, "waiting": True},
    }
    options: dict[str, dict[str, Any]] = {
        "query": {"n_steps": 0},
        "heatmap": {"show": "effect"},
        "ablate": {"mlps": [], "class_token": False, "shortcut": "", "shortcut_b": "", "visible": False},
    }
    return {**drawn, **options.get(name, {}), "view": {**drawn["view"], **views.get(name, {})}}


def _styles(sheets: Sequence[str]) -> str:
    """Return style sheets one after the other, with shared parts only once."""
    own = dict.fromkeys(sheets)
    around = [text(name) for name in ("dashboard/style.css", "core/standalone.css")]
    return "\n".join([text("core/base.css"), *own, *around, _resource("page.css")])


def _about(shown: Session) -> dict[str, Any]:
    """Return what the page's answers depend on besides the model."""
    bundle, n_images = shown.model.bundle, len(shown.images)
    labels = {f"{layer},{head}": asdict(shown.heads.label(layer, head)) for layer, head in shown.heads.kept}
    return {
        "tasks": [_task(task) for task in _tasks(shown).values()],
        "templates": list(TEMPLATES),
        "presets": {
            name: [asdict(preset) for preset in shown.ablation.presets(task=task)]
            for name, task in [*_tasks(shown).items(), ("", None)]
        },
        "titles": [title(shown.images.opened, i) for i in range(n_images)],
        "columns": shown.images.opened.attributes or {},
        "attributes": shown.images.columns(),
        "masked": [shown.maps.truth(i) is not None for i in range(n_images)],
        "own": bundle is not None and bundle.images is not None,
        "labels": labels,
        "rules": {"n_late": N_LATE, "far": FAR, "things": [list(group) for group in THINGS], "found": FOUND},
    }


def _tasks(shown: Session) -> dict[str, Task]:
    """Return the tasks of the published images that have a classifier."""
    return {
        name: task
        for name, task in shown.ablation.tasks().items()
        if shown.ablation.classifier(task) is not None
    }


def _task(task: Task) -> dict[str, Any]:
    return {
        name: getattr(task, name) for name in ("name", "note", "classes", "prompts", "labels", "groups", "by")
    }


def _masks(shown: Session) -> bytes | None:
    """Return the true masks one after the other, for images that have one."""
    found = [mask for i in range(len(shown.images)) if (mask := shown.maps.truth(i)) is not None]
    return b"".join(mask.astype(np.uint8).tobytes() for mask in found) if found else None


def _scripts(folder: Path, board: dict[str, Any], css: str, tokens: str) -> None:
    """Return the modules, the panels' own scripts, the runtime and the style sheet."""
    for name in ("script", "panels", "runtime"):
        (folder / name).mkdir(exist_ok=True)
    for found in resources.files("clipviz.page").joinpath("script").iterdir():
        if found.name.endswith(".js"):
            write_whole(folder / "script" / found.name, found.read_bytes())
    for name in ordered(
        ["core/around.js", *(f"{panel['name']}/view.js" for panel in board["panels"]), "desks/view.js"]
    ):
        place = folder / "panels" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        write_whole(place, text(name).encode())
    for module in (vendor.RUNTIME, *([vendor.TOKENIZERS] if tokens == "json" else [])):
        write_whole(folder / "runtime" / module, vendor.script(module))
    write_whole(folder / "page.css", css.encode())
    write_whole(folder / "NOTICES.txt", vendor.notices())


def _page(heading: str) -> str:
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        '<meta name="referrer" content="no-referrer">\n<link rel="icon" href="data:,">\n'
        f"<title>{html.escape(heading)}</title>\n"
        '<link rel="stylesheet" href="page.css">\n</head>\n<body>\n<main></main>\n'
        '<script type="module" src="script/board.js"></script>\n</body>\n</html>\n'
    )


def _resource(name: str) -> str:
    return (resources.files("clipviz.page") / name).read_text(encoding="utf-8")


def _json(said: Any) -> bytes:
    return json.dumps(said, allow_nan=False, ensure_ascii=False).encode()


def _close(dashboard: Dashboard) -> None:
    """Close the widgets and leave the session open."""
    for panel in dashboard.panels:
        panel.close()
    dashboard.desks.close()
    dashboard.tour.close()
