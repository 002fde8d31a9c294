"""Training of the demo model: the objective, resuming after a kill, the evaluation's tables."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import clipviz
from clipviz.demo.model import evaluate, network
from clipviz.demo.world.captions import FACTS
from clipviz.demo.world.sampling import PLAIN, Theme, counting_theme, sample_scene, spotlight_theme
from clipviz.demo.world.scene import GLYPH, SHAPE
from clipviz.demo.world.truth import FALSE, TRUE, UNKNOWN
from clipviz.models.checksummed import narrowed, widened
from tools.demo import batches, objective, train, varying

TINY = {
    "embed_dim": 16,
    "vision_cfg": {"layers": 1, "width": 32, "head_width": 16, "patch_size": 32, "image_size": 96},
    "text_cfg": {"context_length": 24, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


@pytest.fixture
def tiny_config(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(TINY))
    return path


def arguments(folder, config, samples):
    quiet = [
        "--watched",
        "0",
        "--ahead",
        "0",
        "--reference",
        "40",
        "--warmup",
        "2",
        "--checkpoint-minutes",
        "0",
    ]
    options = ["--batch-size", "8", "--threads", "1", "--device", "cpu", *quiet]
    return [str(folder), "--config", str(config), "--samples", str(samples), *options]


FORKED = """
import os, runpy, sys
from clipviz.demo.model import evaluate, network
from tools.demo import batches, objective
for options in sys.argv[1:]:
    pid = os.fork()
    if not pid:
        sys.argv = ["train", *options.split("|")]
        runpy.run_module("tools.demo.train", run_name="__main__")
        os._exit(0)
    print(pid, flush=True)
    sys.stdin.readline()
"""


def test_killed_runs_resume_and_end_like_undisturbed_ones(tmp_path, tiny_config):
    """With either optimizer; one process opens torch and forks both runs."""
    optimizers = ["--no-muon", *(["--muon"] if hasattr(torch.optim, "Muon") else [])]
    samples = 48
    runs = {one: [*arguments(tmp_path / f"killed{one}", tiny_config, samples), one] for one in optimizers}
    with subprocess.Popen(
        [sys.executable, "-c", FORKED, *map("|".join, runs.values())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    ) as process:
        for optimizer in optimizers:
            pid, saved = int(process.stdout.readline()), tmp_path / f"killed{optimizer}" / "checkpoint.pt"
            deadline = time.monotonic() + 600
            while not saved.exists() and time.monotonic() < deadline:
                time.sleep(0.02)
            os.kill(pid, signal.SIGKILL)
            process.stdin.write("\n")
            process.stdin.flush()
    for optimizer, options in runs.items():
        folder = tmp_path / f"killed{optimizer}"
        assert torch.load(folder / "checkpoint.pt", weights_only=True)["progress"]["step"] >= 1
        assert not (folder / "model.safetensors").exists()
        train.main(options)
        whole = tmp_path / f"whole{optimizer}"
        train.main([*arguments(whole, tiny_config, samples), optimizer])
        killed, undisturbed = (
            torch.load(one / "checkpoint.pt", weights_only=True) for one in (folder, whole)
        )
        assert killed["progress"]["samples"] == undisturbed["progress"]["samples"] == samples
        for name, weight in killed["model"].items():
            torch.testing.assert_close(weight, undisturbed["model"][name], msg=name)
        assert (folder / "model.safetensors").exists()
        assert (folder / "curves.png").exists()


def test_a_run_that_is_asked_to_stop_saves_first(tmp_path, tiny_config, monkeypatch):
    folder, samples = tmp_path / "stopped", 48
    options = [*arguments(folder, tiny_config, samples), "--checkpoint-minutes", "60"]
    step = train.Trainer.step

    def stop_after_two(trainer, batch):
        step(trainer, batch)
        if trainer.progress.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr(train.Trainer, "step", stop_after_two)
        train.main(options)
    assert not (folder / "model.safetensors").exists()
    assert torch.load(folder / "checkpoint.pt", weights_only=True)["progress"]["step"] == 2
    train.main(options)
    assert torch.load(folder / "checkpoint.pt", weights_only=True)["progress"]["samples"] == samples
    assert (folder / "model.safetensors").exists()


def test_patches_are_left_out_first_and_all_shown_at_the_end(tmp_path, tiny_config):
    options = train.parse_arguments([*arguments(tmp_path, tiny_config, 160), "--patch-dropout", "0.5"])
    trainer, seen = train.Trainer(options), []
    trainer.model.visual.transformer.register_forward_hook(
        lambda _, inputs, __: seen.append(inputs[0].shape[1])
    )
    for step in range(20):
        trainer.step(batches.make_batch(0, step, 8, batches.Mixture(n_reference=40)))
        assert (trainer.dropout.things is None) == (step >= 8), "background first in the first part only"
    whole = 1 + (96 // TINY["vision_cfg"]["patch_size"]) ** 2
    assert seen == [1 + int((whole - 1) * 0.5)] * 8 + [1 + int((whole - 1) * 0.75)] * 7 + [whole] * 5


def test_patches_without_things_are_left_out_first():
    dropout = network.BackgroundDropout(patch_size=2, prob=0.5).train()
    things = torch.zeros(2, 8, 8, dtype=torch.bool)
    things[0, 1:4, 2:5] = True  # touches patches 1, 2, 5 and 6 of 16
    things[1] = True
    dropout.things = things
    tokens = torch.arange(17.0).expand(2, 17)[..., None]
    for seed in range(5):
        torch.manual_seed(seed)
        kept = dropout(tokens)[..., 0]
        assert kept.shape == (2, 9)
        assert kept[:, 0].eq(0).all()
        assert {2.0, 3.0, 6.0, 7.0} <= set(kept[0].tolist())
        assert len(set(kept[1].tolist())) == 9
    assert torch.equal(dropout.eval()(tokens), tokens)


def test_the_spotlight_shows_single_large_forms():
    scenes = [
        sample_scene(np.random.default_rng(i), spotlight_theme(np.random.default_rng(i))) for i in range(60)
    ]
    for scene in scenes:
        assert scene.single
        assert scene.subject.kind in (SHAPE, GLYPH)
        assert scene.size == 2
        assert scene.treatment == 0
    assert {scene.subject.kind for scene in scenes} == {SHAPE, GLYPH}


def test_the_counting_groups_show_several_copies_on_one_plain_background():
    scenes = [
        sample_scene(np.random.default_rng(i), counting_theme(np.random.default_rng(0))) for i in range(60)
    ]
    for scene in scenes:
        assert scene.second is None
        assert scene.background == PLAIN
        assert scene.treatment == 0
    assert {scene.count for scene in scenes} == {2, 3, 4, 5, 6}


@pytest.mark.parametrize(
    ("mixture", "kinds"),
    [
        (batches.Mixture(0.0), {Theme()}),
        (batches.Mixture(spotlight=1.0), {"spotlight"}),
        (batches.Mixture(counting=1.0), {"counting"}),
    ],
)
def test_a_mixture_of_one_kind_draws_that_kind_only(mixture, kinds):
    def kind(theme):
        if theme.layout == "several" and theme.plain:
            return "counting"
        return "spotlight" if theme.large and theme.plain and theme.layout == "single" else theme

    assert {kind(mixture.theme(np.random.default_rng(i))) for i in range(40)} == kinds


def test_muon_takes_the_matrices_of_the_blocks_and_nothing_else(tmp_path, tiny_config):
    pytest.importorskip("torch.optim._muon", reason="torch.optim.Muon needs torch 2.9")
    model = network.build(TINY)
    adam, muon = train.optimizers(model, train.parse_arguments([str(tmp_path), "--muon"]))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    inner = {names[id(p)] for group in muon.param_groups for p in group["params"]}
    outer = {names[id(p)] for group in adam.param_groups for p in group["params"]}
    assert inner | outer == set(names.values())
    assert not inner & outer
    assert all(name.endswith("weight") and "resblocks" in name for name in inner)
    assert "token_embedding.weight" in outer


def test_a_batch_depends_on_seed_and_step_only():
    first, again, other = (
        batches.make_batch(3, step, 8, batches.Mixture(n_reference=40)) for step in (5, 5, 6)
    )
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.caption_ids, again.caption_ids)
    assert not torch.equal(first.images, other.images)
    assert len(first.prompt_ids) == sum(len(values) for values in FACTS.values()) + batches.N_POOL


def test_caption_contrast_of_distinct_captions_is_clips_loss():
    generator = torch.Generator().manual_seed(0)
    images, texts = (F.normalize(torch.randn(5, 4, generator=generator), dim=-1) for _ in range(2))
    logits, truth = 10 * images @ texts.T, torch.arange(5)
    expected = (F.cross_entropy(logits, truth) + F.cross_entropy(logits.T, truth)) / 2
    found = objective.caption_contrast(images, texts, torch.tensor(10.0), torch.eye(5))
    torch.testing.assert_close(found, expected)


def test_fact_contrast_is_zero_for_a_model_that_knows():
    n_prompts = sum(len(values) for values in FACTS.values())
    prompts = torch.eye(n_prompts)
    start = len(FACTS["object"]) + len(FACTS["category"])
    images = prompts[[3, 7]]
    loss, accuracy = objective.fact_contrast(
        images,
        prompts,
        torch.tensor(100.0),
        {"object": torch.tensor([0, 1])},
        {"object": torch.tensor([3, 7])},
    )
    assert loss.item() < 1e-3
    assert accuracy == {"object": 1.0}
    wrong, _ = objective.fact_contrast(
        prompts[[start]],
        prompts,
        torch.tensor(100.0),
        {"bird": torch.tensor([0])},
        {"bird": torch.tensor([1])},
    )
    assert wrong.item() == pytest.approx(100, abs=1)


@pytest.mark.parametrize("masked", [False, True])
def test_written_out_attention_equals_torchs_with_its_gradients(masked):
    torch.manual_seed(1)
    module = torch.nn.MultiheadAttention(24, 3, batch_first=True).double()
    torch.nn.init.normal_(module.in_proj_bias)
    tokens = torch.randn(2, 7, 24, dtype=torch.float64, requires_grad=True)
    mask = torch.full((7, 7), -math.inf, dtype=torch.float64).triu(1) if masked else None
    weights = torch.randn(2, 7, 24, dtype=torch.float64)
    found, _ = objective.self_attention(module, tokens, tokens, tokens, attn_mask=mask)
    expected, _ = module(tokens, tokens, tokens, need_weights=False, attn_mask=mask)
    torch.testing.assert_close(found, expected)
    wanted = [tokens, *module.parameters()]
    torch.testing.assert_close(
        torch.autograd.grad((found * weights).sum(), wanted),
        torch.autograd.grad((expected * weights).sum(), wanted),
    )


def test_short_texts_encode_like_padded_ones():
    torch.manual_seed(0)
    model = network.build(TINY).eval()
    ids = network.tokenize(["a duck", "two red apples on a striped background"])
    with torch.inference_mode():
        torch.testing.assert_close(network.encode_short_texts(model, ids)[0], model.encode_text(ids))


def test_token_ids_are_open_clips_own():
    from open_clip.tokenizer import SimpleTokenizer

    sentences = ["a photo of a t-shirt", "a landbird in the woods", "something on graph paper"]
    assert torch.equal(network.tokenize(sentences), SimpleTokenizer(context_length=24)(sentences))


def test_the_report_has_every_family_with_its_chance():
    torch.manual_seed(0)
    encoder = evaluate.encoder_of(network.build(TINY).eval())
    results = evaluate.report(encoder, n=120, seed=1, n_large=12)
    assert {"object, single, own colour", "glyph, large, plain", "count", "treatment"} <= set(results)
    assert results["count"]["chance"] == pytest.approx(1 / 5)
    for result in results.values():
        assert result["n"] > 0
        assert 0 <= result["accuracy"] <= 1


def test_bird_groups_report_the_worst_one():
    torch.manual_seed(0)
    groups = evaluate.bird_groups(evaluate.encoder_of(network.build(TINY).eval()), 3, 1)
    assert groups["worst group"] == min(list(groups.values())[:4])
    assert 0 <= groups["mean"] <= 1


def test_weights_are_written_with_untrained_tokens_zeroed(tmp_path):
    model = network.build(TINY)
    network.save_weights(model, tmp_path / "w.safetensors", keep_tokens=[5])
    again = network.load_weights(network.build(TINY), tmp_path / "w.safetensors")
    rows = again.token_embedding.weight.abs().sum(-1)
    assert rows[5] > 0
    assert rows.count_nonzero() == 1


def test_trained_weights_load_like_the_embedded_ones(tmp_path):
    torch.manual_seed(0)
    path = tmp_path / "model.safetensors"
    trained = network.build(network.read_config())
    network.save_weights(trained, path)
    model = clipviz.load("demo", pretrained=str(path), device="cpu")
    stored = widened(narrowed({"projection": trained.visual.proj}))["projection"]
    assert model.visual.proj.equal(stored)
    assert model.pretrained == str(path)
    assert model.fingerprint != clipviz.load("demo", device="cpu").fingerprint


@pytest.mark.parametrize("content", [None, b"nothing", "tiny"])
def test_other_files_are_refused_as_weights_of_the_demo(tmp_path, content):
    path = tmp_path / "model.safetensors"
    if content == "tiny":
        network.save_weights(network.build(TINY), path)
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"expected weights of the demo model at .*model.safetensors"):
        clipviz.load("demo", pretrained=str(path))


def test_the_truth_loss_equals_its_definition_and_is_least_at_pointwise_mutual_information():
    """By plain loops in float64; 0 where every true sentence has its share, whatever is unknown."""
    rng = torch.Generator().manual_seed(4)
    images, texts = (F.normalize(torch.randn(n, 6, generator=rng).double(), dim=1) for n in (5, 9))
    truth = torch.randint(0, 3, (5, 9), generator=rng)
    truth[0], truth[1, 0] = 0, 2
    frequency, scale = torch.rand(9, generator=rng).double(), 7.0
    found, _ = objective.truth_contrast(images, texts, torch.tensor(scale), truth, frequency)
    expected = []
    for image in range(5):
        known = [text for text in range(9) if truth[image, text] != UNKNOWN]
        weights = {t: frequency[t] * torch.exp(scale * images[image] @ texts[t]) for t in known}
        total, true = sum(weights.values()), [t for t in known if truth[image, t] == TRUE]
        if true:
            share = 1 / len(true)
            expected.append(sum(share * torch.log(share * total / weights[t]) for t in true))
    assert len(expected) == 4
    torch.testing.assert_close(found, sum(expected) / len(expected))

    certain = torch.tensor([[2, 0, 2], [0, 2, 1]])
    shares, common = torch.tensor([0.5, 0.3, 0.2]).double(), torch.tensor([1e-9, 1.0])
    best = torch.where(certain == TRUE, common[1], common[0]).double() / shares
    one = torch.ones(()).double()
    least, first = objective.truth_contrast(torch.eye(2).double(), best.log().T, one, certain, shares)
    assert least < 1e-6
    assert first == 1


@pytest.mark.parametrize("rarity", [1.0, 0.6])
def test_a_rare_true_sentence_comes_before_a_common_one(rarity):
    """What the correction is for: two sentences are always true, and the rarer one is to be nearest."""
    images = torch.ones(4, 1)
    texts = torch.zeros(2, 1, requires_grad=True)
    truth, frequency = torch.full((4, 2), TRUE), torch.tensor([0.9, 0.01])
    optimizer = torch.optim.Adam([texts], lr=0.1)
    for _ in range(200):
        loss, _ = objective.truth_contrast(images, texts, torch.ones(()), truth, frequency, rarity)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    difference = (texts[1] - texts[0]).item()
    assert difference == pytest.approx(rarity * math.log(0.9 / 0.01), abs=0.05)


def test_sentences_of_a_batch_come_with_their_truth():
    """Captions are true of their own images; how common a sentence is comes from free scenes."""
    batch = batches.make_batch(0, 2, 16, batches.Mixture(n_reference=200))
    n_prompts = len(batch.prompt_ids)
    assert batch.truth.shape == (16, n_prompts + 16)
    assert (batch.truth[:, n_prompts:].diagonal() != FALSE).all()
    assert ((batch.frequency > 0) & (batch.frequency < 1)).all()
    assert batches.frequency("a letter", 200) > batches.frequency("the letter a", 200)


def test_altered_sprites_keep_their_canvas_and_their_alpha():
    rng = np.random.default_rng(3)
    pixels = np.zeros((30, 40, 4), np.uint8)
    pixels[6:24, 8:32] = (90, 40, 20, 255)
    changed = [varying.vary(pixels, rng) for _ in range(60)]
    assert {one.shape for one in changed} == {pixels.shape}
    assert all((one[..., :3] <= one[..., 3:]).all() for one in changed)
    assert 15 < sum((one != pixels).any() for one in changed) < 45
