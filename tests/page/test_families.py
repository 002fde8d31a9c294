"""One export and one script for every readout: what the page computes is what Python says, for every kind of tower."""

from __future__ import annotations

import gzip
import threading

import numpy as np
import pytest
from PIL import Image

from clipviz.models.towers.recording import Recorder, listening
from clipviz.page import export, packing
from clipviz.session import Session
from clipviz.values import Ablation
from tests.models.families import with_an_unknown_tokenizer, with_texts
from tests.page.node import answer
from tests.page.sites import NEEDS_EXPORTER, site

pytestmark = NEEDS_EXPORTER

FAMILIES = ("class token", "SigLIP", "post-norm, pooled", "norm, GAP, registers")
TEXTS = ["a red circle", "The SEA, 2 boats", "ünïcode “quotes” 🦩"]
TYPED = "a swan nobody named"
CLOSE = 1e-5  # of the largest


def pictures(n: int) -> list[Image.Image]:
    draw = np.random.default_rng(3)
    return [Image.fromarray(draw.integers(0, 256, (32, 32, 3), dtype=np.uint8)) for _ in range(n)]


def far(found, wanted) -> float:
    """The largest difference, as a share of the largest number."""
    wanted = np.asarray(wanted, np.float64)
    found = np.asarray(found, np.float64).reshape(wanted.shape)
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


@pytest.fixture(scope="module", params=FAMILIES)
def told(request, tmp_path_factory):
    """A session of a family, and what the page says of it. All have one kind of text tower, which one page carries."""
    model, texts = with_texts(request.param), [*TEXTS, "one more"]
    if request.param != FAMILIES[0]:
        model, texts = with_an_unknown_tokenizer(model), [*texts, TYPED]
    session = Session(model, images=pictures(5), texts=texts, background=False)
    ablation = Ablation(heads=frozenset({(1, 0), (2, 1)}), layers=frozenset({0}))
    page = answer(
        "effects.mjs",
        site=str(site(session, tmp_path_factory.mktemp("site") / "site")),
        images=[0, 3],
        texts=[TYPED, *TEXTS],
        head=[2, 1],
        ablation=ablation.to_dict(),
    )
    yield session, page, ablation
    session.close()


def test_effects_and_scores_are_those_of_python(told):
    session, page, _ = told
    assert len(page["found"]) == 8
    for one in page["found"]:
        trace, direction = session.images.trace(one["image"]), session.model.encode_texts(one["text"])[0]
        assert far(one["direction"], direction) < CLOSE
        assert far(one["embedding"], trace.embedding[0]) < CLOSE
        assert far(one["heads"], trace.head_effects()[0] @ direction) < CLOSE
        assert far(one["mlps"], trace.mlp_effects()[0] @ direction) < CLOSE
        assert far(one["tokens"], trace.token_scores(direction[None])[0, 0]) < CLOSE
        assert far(one["attention"], trace.attention[0]) < CLOSE
        assert one["sumCheck"] < CLOSE
        if session.model.weights.readout.pools:
            assert far(one["pool"], trace.pool_scores(direction[None])[0, 0]) < CLOSE


def test_tokens_sum_to_heads_and_all_effects_to_the_cosine(told):
    _, page, _ = told
    for one in page["found"]:
        heads, embedding = np.array(one["heads"]), np.array(one["embedding"])
        assert far(np.reshape(one["tokens"], (len(heads), -1)).sum(1), heads) < CLOSE
        assert abs(heads.sum() + sum(one["mlps"]) - embedding @ one["direction"]) < CLOSE * np.linalg.norm(
            embedding
        )


def test_likeness_and_ablation_are_those_of_python(told):
    session, page, ablation = told
    text, (layer, head), image = TYPED, (2, 1), 0
    assert far(page["effect"], session.images.trace(image).head_effects()[0, layer, head]) < CLOSE
    assert far(page["whole"], session.images.cosines(text)) < CLOSE
    assert far(page["cosines"], session.images.cosines(text, ablation=ablation)) < CLOSE
    for found, asked in ((page["like"], (None, None)), (page["under"], (layer, head))):
        for other, likeness in session.images.neighbours(image, *asked, k=4):
            assert abs(found[other] - likeness) < CLOSE
    direction = session.model.encode_texts(text)[0]
    for other, score in session.images.top(direction, layer, head, k=5):
        assert abs(page["headScores"][other] - score) < CLOSE * max(map(abs, page["headScores"]))


def test_a_model_too_large_for_a_browser_is_refused_before_anything_is_exported(monkeypatch):
    model = with_texts("class token")
    monkeypatch.setattr(export, "MEMORY", 1e6)
    monkeypatch.setattr(export, "_onnx", None)
    with pytest.raises(export.CannotExport, match=r"needs about .* GB there; publish a smaller one"):
        export.export(model)


def test_what_torch_cannot_export_is_refused_with_its_reason():
    model = with_texts("class token")
    plain = model.visual.forward
    model.visual.forward = lambda pixels: plain(pixels) * float(pixels.sum().item())
    with pytest.raises(
        export.CannotExport,
        match="a model that torch can export, but the exporter failed at the image tower of 'class token'",
    ):
        export.export(model, texts=False)


def test_half_precision_rounds_the_model_and_not_what_is_said_of_it():
    model = with_texts("class token")
    rounded = export.in_precision(model, "float16")
    assert export.in_precision(model, "float32") is model
    assert rounded.fingerprint != model.fingerprint
    content, places = packing.packed({"matrix": rounded.visual.proj.detach().numpy()})
    assert places["matrix"]["dtype"] == "float16"
    assert len(content) == 2 * rounded.visual.proj.numel()
    assert packing.packed({"matrix": model.visual.proj.detach().numpy()})[1]["matrix"]["dtype"] == "float32"
    with pytest.raises(ValueError, match="expected precision 'float32' or 'float16', got 'int8'"):
        export.in_precision(model, "int8")


def test_a_network_is_copied_between_two_passes_of_a_session():
    """A session that still reads its images has hooks on the network; these hold what cannot be copied."""
    model = with_texts("class token")
    hooked, go = threading.Event(), threading.Event()

    def read():
        with listening(Recorder(model.tower, keep_tokens=True)):
            hooked.set()
            go.wait(10)

    reading = threading.Thread(target=read)
    reading.start()
    hooked.wait(10)
    threading.Timer(0.2, go.set).start()  # the copy waits for its turn
    copied = export.in_precision(model, "float16")
    reading.join()
    hooks = [
        module for module in copied.network.modules() if module._forward_hooks or module._forward_pre_hooks
    ]
    assert go.is_set()
    assert hooks == []


def test_contents_are_cut_into_parts_that_hosts_take(tmp_path, monkeypatch):
    monkeypatch.setattr(packing, "PART", 1000)
    folder = packing.Folder(tmp_path)
    content = bytes(range(256)) * 9
    (tmp_path / "old.bin").write_bytes(b"of an earlier page")
    said = folder.add(content)
    folder.keep_only_these()
    assert sorted(said["parts"]) == sorted(path.name for path in tmp_path.iterdir())
    parts = [gzip.decompress((tmp_path / name).read_bytes()) for name in said["parts"]]
    assert [len(part) for part in parts] == [1000, 1000, 304]
    assert b"".join(parts) == content
    assert said["sent"] == sum((tmp_path / name).stat().st_size for name in said["parts"])
