"""What a browser does with a panel, without one."""

from __future__ import annotations


def ask(panel, changes=None, *, background=False, **extra):
    """Send a request as the panel's script does and wait for its answer (and for the collection to be read)."""
    seq = panel.request.get("seq", 0) + 1
    panel.request = {"seq": seq, "changes": changes or {}, **extra}
    if background:
        panel.session.wait(120, background=True)
    panel.session.wait(60)
    assert panel.view["ack"] == seq
