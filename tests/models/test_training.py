"""Dictionaries trained here: the loss of a step, known directions recovered, runs that go on, files that come back."""

from __future__ import annotations

import dataclasses

import naive
import pytest
import torch

import clipviz
from clipviz.models.dictionaries import Dictionary
from clipviz.models.dictionaries.training import AUXILIARY, CHECKPOINT, Recipe, Run, losses
from tests.models.families import images

QUICK = {"batch": 64, "passes": 3, "noted": 2, "kept": 3, "dead_after": 300}


@pytest.fixture(scope="module")
def model():
    return clipviz.wrap(naive.small_clip(2), name="small")


def test_losses_of_a_step_equal_a_literal_sum():
    """What is left and what dead features would explain of it, a token and a feature at a time in float64."""
    rng = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, generator=rng, dtype=torch.float64)

    n, d_in, k = 7, 4, 2
    encoder, encoder_bias, decoder, bias, inputs = (
        draw(n, d_in),
        draw(n),
        draw(n, d_in),
        draw(d_in),
        draw(5, d_in),
    )
    dead = torch.tensor([True, False, False, True, False, True, False])
    left = explained_by_dead = rest = spread = 0.0
    mean = sum(inputs) / len(inputs)
    active = set()
    for x in inputs:
        products = [float((x - bias) @ encoder[f] + encoder_bias[f]) for f in range(n)]
        kept = sorted(range(n), key=lambda f: -products[f])[:k]
        rebuilt = bias.clone()
        for f in kept:
            if products[f] > 0:
                rebuilt += products[f] * decoder[f]
                active.add(f)
        error = x - rebuilt
        silent = sorted((f for f in range(n) if dead[f]), key=lambda f: -products[f])[: max(k, d_in // 2)]
        again = sum((max(products[f], 0.0) * decoder[f] for f in silent), torch.zeros(d_in).double())
        left += float(error @ error)
        rest += float((error - again) @ (error - again))
        spread += float((x - mean) @ (x - mean))
        explained_by_dead = rest / left
    found = losses(encoder, encoder_bias, decoder, bias, inputs, k, dead)
    assert float(found.loss) == pytest.approx(left / spread + AUXILIARY * explained_by_dead, rel=1e-12)
    assert float(found.explained) == pytest.approx(1 - left / spread, rel=1e-12)
    assert set(found.active.nonzero()[:, 0].tolist()) == active
    alive = losses(encoder, encoder_bias, decoder, bias, inputs, k, torch.zeros(n, dtype=torch.bool))
    assert float(alive.loss) == pytest.approx(left / spread, rel=1e-12)


class Planted:
    """Tokens that are sparse sums of known directions, in the place of a model's."""

    def __init__(self, n_directions=48, d_in=24, n_active=3, n_steps=1500, batch=256):
        rng = torch.Generator().manual_seed(1)
        self.directions = torch.nn.functional.normalize(torch.randn(n_directions, d_in, generator=rng), dim=1)
        self.shift = torch.randn(d_in, generator=rng)
        self.d_in, self.n_steps, self.batch, self.n_active = d_in, n_steps, batch, n_active
        first = next(self.raw(0))
        self.mean, self.scale = first.mean(0).double(), float(first.std())
        self.model = torch.nn.Module()
        self.model.device = torch.device("cpu")

    def raw(self, done):
        while True:
            rng = torch.Generator().manual_seed(100 + done)
            chosen = (
                torch.rand(self.batch, len(self.directions), generator=rng).topk(self.n_active, -1).indices
            )
            sizes = 0.5 + torch.rand(self.batch, self.n_active, generator=rng)
            yield 7 * (torch.einsum("tk,tkd->td", sizes, self.directions[chosen]) + self.shift)
            done += 1

    def batches(self, done):
        for tokens in self.raw(done):
            yield tokens / self.scale

    def identity(self):
        return "planted"


def test_known_sparse_directions_are_recovered():
    tokens = Planted()
    run = Run(tokens, Recipe(n=64, k=3, rate=3e-3, dead_after=5_000), None)
    while not run.finished:
        run.step()
    found = Dictionary(0, "residual", **run.fields())
    rng = torch.Generator().manual_seed(9)
    drawn = torch.nn.functional.normalize(torch.randn(64, tokens.d_in, generator=rng), dim=1)
    recovered, chance = (
        float((tokens.directions @ directions.T).max(1).values.mean())
        for directions in (found.decoder, drawn)
    )
    print(recovered, chance, run.log())
    assert recovered > 0.95
    assert chance < 0.65
    fresh = next(tokens.raw(10**6))
    left = fresh - found.reconstruct(fresh)
    assert float(left.square().sum() / (fresh - fresh.mean(0)).square().sum()) < 0.1
    assert torch.allclose(found.decoder.norm(dim=1), torch.ones(64), atol=1e-5)


def test_a_dictionary_is_trained_on_a_models_tokens_and_comes_back(model, tmp_path):
    pixels = images(model, 40)
    trained = Dictionary.train(model, pixels, 1, 96, 6, path=tmp_path / "one", **(QUICK | {"passes": 20}))
    assert (trained.layer, trained.point, trained.k, trained.n_units) == (1, "residual", 6, 96)
    measured = model.measure_dictionary(pixels, trained)
    assert measured.explained > 0.5
    assert measured.n_active <= 6
    assert trained.log.explained[-1] == pytest.approx(measured.explained, abs=0.1)
    assert trained.log.steps[-1] == 20 * -(-40 * 17 // 64)
    assert trained.log.tokens == 20 * 40 * 17
    assert not (tmp_path / "one" / CHECKPOINT).exists()
    again = Dictionary.load(tmp_path / "one")
    assert again.log == trained.log
    for field in ("encoder", "encoder_bias", "decoder", "bias"):
        assert torch.equal(getattr(again, field), getattr(trained, field))
    for field in ("layer", "point", "k", "activation", "subtracts_bias", "norm", "model", "cls_token_only"):
        assert getattr(again, field) == getattr(trained, field)
    trained.save(tmp_path / "half", half=True)
    half = model.measure_dictionary(pixels, Dictionary.load(tmp_path / "half"))
    assert half.explained == pytest.approx(measured.explained, abs=0.01)
    figure = clipviz.figures.dictionaries.training(trained.log)
    explained, dead = figure.axes[0].lines
    assert explained.get_ydata().tolist() == list(trained.log.explained)
    assert dead.get_ydata().tolist() == list(trained.log.dead)
    other = clipviz.wrap(naive.small_clip(3), name="other")
    with pytest.raises(ValueError, match=f"trained on the weights {model.weights_fingerprint}"):
        other.measure_dictionary(pixels, trained)
    assert other.measure_dictionary(pixels, dataclasses.replace(trained, model="")).explained < 0.5


class Stopped(Exception):
    pass


def test_an_interrupted_run_goes_on_and_ends_as_an_undisturbed_one(model, tmp_path, monkeypatch):
    pixels = images(model, 40)
    whole = Dictionary.train(model, pixels, 0, 32, 4, "mlp output", **QUICK)

    def stop(log):
        if log.steps[-1] >= 14:
            raise Stopped

    with pytest.raises(Stopped):
        Dictionary.train(model, pixels, 0, 32, 4, "mlp output", tmp_path, stop, **QUICK)
    assert (tmp_path / CHECKPOINT).exists()
    with pytest.raises(ValueError, match="got a different run; delete it to start again"):
        Dictionary.train(model, pixels, 0, 32, 5, "mlp output", tmp_path, **QUICK)
    seen = []
    resumed = Dictionary.train(model, pixels, 0, 32, 4, "mlp output", tmp_path, seen.append, **QUICK)
    assert seen[0].steps[-1] == 14  # the checkpoint was that of step 12
    for field in ("encoder", "encoder_bias", "decoder", "bias"):
        assert torch.equal(getattr(resumed, field), getattr(whole, field))
    assert resumed.log.explained == whole.log.explained
    # parts of the images that are held one after the other: other batches, and they go on as well
    monkeypatch.setattr("clipviz.models.dictionaries.training.HELD_BYTES", 1)
    parts = Dictionary.train(model, pixels, 0, 32, 4, "mlp output", **QUICK)
    assert not torch.equal(parts.encoder, whole.encoder)
    (tmp_path / "parts").mkdir()
    with pytest.raises(Stopped):
        Dictionary.train(model, pixels, 0, 32, 4, "mlp output", tmp_path / "parts", stop, **QUICK)
    again = Dictionary.train(model, pixels, 0, 32, 4, "mlp output", tmp_path / "parts", **QUICK)
    assert torch.equal(again.encoder, parts.encoder)
    assert again.log.steps == parts.log.steps


def test_each_pass_sees_every_token_once(model, monkeypatch):
    from clipviz.models.dictionaries import training

    pixels = images(model, 40)
    for held in (1, 1 << 30):
        monkeypatch.setattr(training, "HELD_BYTES", held)
        tokens = training.Tokens(model, pixels, 0, "residual", Recipe(4, 1, batch=64, passes=1))
        every = tokens._read(range(40)).flatten(0, 1) / tokens.scale
        drawn = tokens.batches(0)
        seen = torch.cat([next(drawn) for _ in range(tokens.n_steps)])
        assert seen.shape == every.shape
        key = torch.randn(every.shape[1], generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close((seen @ key).sort().values, (every @ key).sort().values)


def test_what_cannot_be_trained_is_refused(model):
    pixels = images(model, 2)
    for how, message in (
        ({"n": 4, "k": 5}, r"expected k within 1\.\.4"),
        ({"n": 0, "k": 1}, "expected n as a positive integer, got 0"),
        ({"n": 4, "k": 1, "passes": 0}, "positive number of passes"),
        ({"n": 4, "k": 1, "layer": 3}, r"expected a layer within 0\.\.2"),
        ({"n": 4, "k": 1, "point": "stream"}, "expected a point among residual"),
        ({"n": 4, "k": 1, "images": []}, "at least one image"),
    ):
        with pytest.raises(ValueError, match=message):
            Dictionary.train(model, **({"images": pixels, "layer": 0} | how))
