"""The demo's published folder, which several tests open."""

from __future__ import annotations

import pytest

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
    """The folder of what the page needs for it."""
    pytest.importorskip("onnx", reason="the page's export needs the extra web")
    pytest.importorskip("onnxscript", reason="the page's export needs the extra web")
    from tests.page.sites import site

    return site(demo, tmp_path_factory.mktemp("demo") / "site")
