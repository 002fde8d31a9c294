"""Read a session's images in the background, one batch at a time."""

from __future__ import annotations

import time
import weakref
from collections.abc import Iterator

from clipviz.analysis.collection.image_codes import KeptCodes
from clipviz.analysis.collection.text_pool import WORTH_KEEPING
from clipviz.session.state import State


def reading(reference: weakref.ref[State]) -> Iterator[int]:
    """Read the collection one batch at a time; panels are refreshed as it grows and when it is complete.

    The steps keep no reference to the session while they wait, so that an unused session can be released.
    """
    state = reference()
    assert state is not None
    kept = KeptCodes(state.model, state.images, state.collection.layers)
    steps = state.collection.read(state.model, state.images, awaited=state.worker.awaited)
    told, started = 0.0, time.monotonic()
    work = state.reading
    del state
    work.resume()
    for n_read in steps:
        state = reference()
        if state is None:
            return
        with state.lock:
            work.reached(n_read)
        if time.monotonic() - told > 1.0 or state.collection.complete:
            told = time.monotonic()
            state.refresh()
        if state.collection.complete and time.monotonic() - started > WORTH_KEEPING:
            kept.keep(state.collection)
        del state
        yield n_read
        work.resume()
    work.reached(work.n_all)  # the last images may all be broken
