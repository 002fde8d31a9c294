"""The demo's published folder, which several tests open; their files run on one worker (see tests/conftest.py)."""

from __future__ import annotations

import pytest

from tests.page.sites import DESK

N_IMAGES = 72


@pytest.fixture(scope="session")
def demo():
    """A session of the demo's model on a few of its images."""
    import clipviz

    model = clipviz.load("demo", device="cpu")
    images, texts = model.bundle.images(), model.bundle.texts()
    chosen = images.subset(range(0, len(images), len(images) // N_IMAGES))
    session = clipviz.Session(model, images=chosen, texts=texts, background=False)
    yield session
    session.close()


@pytest.fixture(scope="session")
def demo_site(demo, tmp_path_factory):
    """The folder that is published from it, with heads that are labelled on few rotations."""
    pytest.importorskip("onnx", reason="the page's export needs the extra web")
    pytest.importorskip("onnxscript", reason="the page's export needs the extra web")
    import clipviz
    from clipviz.analysis.heads import labels

    folder = tmp_path_factory.mktemp("demo") / "site"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(labels, "N_DRAWS", 20)
        return clipviz.publish(demo, folder, images=len(demo.images), desks=["ablate", DESK])
