"""Hugging Face models: features agree with the package's own, folders round trip, and what is refused, and how."""

from __future__ import annotations

import re
import sys

import pytest
import torch
from PIL import Image

import clipviz
from clipviz.extras import lacking
from tests.models import hf_models

pytestmark = pytest.mark.skipif(bool(lacking("hf")), reason=lacking("hf"))

TEXTS = ["a photo of a dog", "the red circle"]


@pytest.fixture(scope="module", params=["clip", "siglip"])
def opened(request):
    network, processor = getattr(hf_models, request.param)()
    return network, processor, clipviz.wrap(network, processor, name=request.param)


def features(found):
    return found if isinstance(found, torch.Tensor) else found.pooler_output


def picture() -> Image.Image:
    noise = torch.randint(0, 255, (40, 56, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return Image.fromarray(noise.numpy())


def test_features_agree_with_the_packages_own(opened):
    network, processor, model = opened
    with torch.no_grad():
        inputs = processor(images=picture(), return_tensors="pt")
        images = features(network.get_image_features(**inputs))
        tokens = processor.tokenizer(TEXTS, padding="max_length", max_length=12, return_tensors="pt")
        texts = features(network.get_text_features(input_ids=tokens["input_ids"]))
    assert torch.allclose(model.encode_images(picture()), images, atol=1e-5)
    assert torch.allclose(model.trace(picture()).embedding, images, atol=1e-5)
    assert torch.allclose(model.encode_texts(TEXTS, normalize=False), texts, atol=1e-5)
    assert model.sum_check < 1e-5


def test_probabilities_are_the_packages_own(opened):
    network, processor, model = opened
    inputs = processor(text=TEXTS, images=picture(), padding="max_length", max_length=12, return_tensors="pt")
    with torch.no_grad():
        logits = network(input_ids=inputs["input_ids"], pixel_values=inputs["pixel_values"]).logits_per_image
    sigmoid = hasattr(network, "logit_bias")
    assert (model.logit_bias is not None) == sigmoid
    unit = torch.nn.functional.normalize(model.encode_images(picture()), dim=-1)
    found = model.probabilities(unit @ model.encode_texts(TEXTS).T)
    expected = logits.sigmoid() if sigmoid else logits.softmax(-1)
    assert torch.allclose(found, expected, atol=1e-5)
    scale = float(network.logit_scale.detach().exp())
    shown = (
        f"sigmoid of {scale:.1f} × cosine" if sigmoid else f"softmax of {scale:.1f} × cosine over the classes"
    )
    assert model.link.startswith(shown)
    assert (
        not sigmoid or f"{abs(float(network.logit_bias.detach())):.1f}, each class separately" in model.link
    )


def test_a_local_folder_round_trips(opened, tmp_path):
    network, processor, model = opened
    network.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    again = clipviz.load(str(tmp_path), device="cpu")
    assert again.fingerprint == model.fingerprint
    assert torch.equal(again.prepare(picture()), model.prepare(picture()))
    assert torch.allclose(again.encode_texts(TEXTS), model.encode_texts(TEXTS), atol=1e-6)
    assert again.shown(again.prepare(picture())).shape == (1, 32, 32, 3)


def test_another_type_is_refused_before_its_weights(tmp_path):
    import transformers

    transformers.ViTConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"got 'vit'.*Rosetta partner"):
        clipviz.load(str(tmp_path), device="cpu")
    transformers.Siglip2Config().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"got 'siglip2'.*resolution varies.*siglip2-base-patch16-224"):
        clipviz.load(str(tmp_path), device="cpu")


def test_without_a_processor_it_is_asked_for():
    network, _ = hf_models.clip()
    with pytest.raises(ValueError, match=r"expected a processor.*CLIPModel, got NoneType.*AutoProcessor"):
        clipviz.wrap(network)
    with pytest.raises(ValueError, match=r"'clip_vision_model' \(CLIPVision\w+\)"):
        clipviz.wrap(network.vision_model, hf_models.clip()[1])


def test_a_processor_of_another_size_is_refused():
    network, processor = hf_models.clip()
    processor.image_processor.crop_size = {"height": 16, "width": 16}
    with pytest.raises(ValueError, match=r"gives \[3, 32, 32\].*got \[3, 16, 16\]"):
        clipviz.wrap(network, processor)


def test_without_transformers_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r'pip install "clipviz\[hf\]"'):
        clipviz.load("openai/clip-vit-base-patch32", device="cpu")


def test_without_a_network_the_name_and_the_reason_are_told(monkeypatch):
    import transformers

    def offline(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", offline)
    with pytest.raises(ValueError, match=r"openai/clip-vit-base-patch32.*no route to host.*local folder"):
        clipviz.load("openai/clip-vit-base-patch32", device="cpu")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda w: w.pop("visual_projection.weight"), "lacks visual_projection.weight"),
        (
            lambda w: w.update({"vision_model.extra.weight": torch.zeros(3)}),
            "also holds vision_model.extra.weight",
        ),
        (
            lambda w: w.update({"text_projection.weight": torch.zeros(3, 4)}),
            "has another shape of text_projection.weight",
        ),
    ],
)
def test_a_checkpoint_that_is_not_whole_is_refused_by_the_tensors_name(tmp_path, change, told):
    from safetensors.torch import load_file, save_file

    network, processor = hf_models.clip()
    network.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    change(weights)
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=re.escape(told)):
        clipviz.load(str(tmp_path), device="cpu")


@pytest.mark.parametrize("kind", ["chinese_clip", "altclip"])
def test_text_towers_that_read_all_tokens_are_told_which_are_padding(kind, tmp_path):
    network, processor = getattr(hf_models, kind)()
    model = clipviz.wrap(network, processor)
    inputs = processor.tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        texts = features(network.get_text_features(**inputs))
        images = features(network.get_image_features(pixel_values=model.prepare(picture())))
    torch.testing.assert_close(model.encode_texts(TEXTS, normalize=False), texts, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.trace(picture()).embedding, images, rtol=1e-4, atol=1e-5)
    assert model.sum_check < 1e-5
    network.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    assert clipviz.load(str(tmp_path), device="cpu").fingerprint == model.fingerprint


def test_no_code_of_a_checkpoint_is_run(tmp_path, monkeypatch):
    import transformers

    network, processor = hf_models.clip()
    network.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    asked, inside = [], []
    for kind in (transformers.AutoConfig, transformers.CLIPModel, transformers.AutoProcessor):
        real = kind.from_pretrained

        def noted(*arguments, real=real, **options):
            if not inside:  # not what the package asks of itself
                asked.append(options.get("trust_remote_code"))
            inside.append(real)
            try:
                return real(*arguments, **options)
            finally:
                inside.pop()

        monkeypatch.setattr(kind, "from_pretrained", noted)
    clipviz.load(str(tmp_path), device="cpu")
    assert asked == [False] * 3
