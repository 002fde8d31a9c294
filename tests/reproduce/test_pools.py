"""Pools of texts: named on the command line, common words, descriptions of classes that are written once and kept."""

from __future__ import annotations

import importlib
from types import SimpleNamespace

import pytest
import torch

from clipviz.data.texts import Texts, open_texts
from clipviz.reproduce import pools
from clipviz.reproduce.evaluation import Evaluation
from clipviz.reproduce.report import Report, Steps


@pytest.fixture
def evaluation():
    return Evaluation(
        name="any",
        images=None,
        tasks=[],
        pools={"descriptions": Texts(["a red car", "at night", "two owls"]), "common words": Texts(["red", "car"])},
        class_prompts={"owl": ["an owl"], "car": ["a car"]},
    )  # fmt: skip


@pytest.fixture
def words(monkeypatch):
    """The package of common words, three of them."""
    stand_in = SimpleNamespace(top_n_list=lambda language, n: ["the", "of", "and", "to", "in"][: n - 100])
    real = importlib.import_module
    monkeypatch.setattr(
        "clipviz.data.texts.importlib.import_module",
        lambda name: stand_in if name == "wordfreq" else real(name),
    )


@pytest.fixture
def no_words(monkeypatch):
    def fails(n):
        raise ImportError

    monkeypatch.setattr(pools, "common_words", fails)


def test_pools_are_named_as_on_the_command_line(tmp_path):
    assert pools.named_pools(["birds=a=b.txt", "words:20000", "more=words:5"]) == {
        "birds": "a=b.txt",
        "20,000 common words": "words:20000",
        "more": "words:5",
    }
    assert pools.named_pools(None) == {}
    for wrong in ("birds", "=x.txt", "birds=", "words:0"):
        with pytest.raises(ValueError, match="expected NAME=FILE or words:N as a pool, got"):
            pools.named_pools([wrong])
    for twice in (["a=x.txt", "a=y.txt"], ["descriptions=x.txt"]):
        with pytest.raises(ValueError, match="a different name for every pool"):
            pools.named_pools(twice)


def test_added_pools_and_common_words_stand_beside_the_built_in_ones(evaluation, words, tmp_path):
    (tmp_path / "birds.txt").write_text("an owl\na duck\n")
    other = SimpleNamespace(bundle=None)
    found = pools.text_pools(
        other, evaluation, [f"birds={tmp_path / 'birds.txt'}", "words:2"], n_words=(0, 4)
    )
    assert {name: list(pool) for name, pool in found.items()} == {
        "descriptions": ["a red car", "at night", "two owls"],
        "common words": ["the", "of", "and"],  # as many as there are descriptions
        "4 common words": ["the", "of", "and", "to"],
        "birds": ["an owl", "a duck"],
        "2 common words": ["the", "of"],
    }
    assert list(open_texts("words:3")) == ["the", "of", "and"]


def test_without_the_package_the_words_of_the_descriptions_stay_and_the_report_says_so(
    evaluation, no_words, model, tmp_path
):
    other, report = SimpleNamespace(bundle=None), Report(tmp_path, "any")
    assert pools.text_pools(other, evaluation, n_words=(0, 10)) == evaluation.pools
    pools.say_what_is_missing(report, other, False, "Figure 3.4")
    assert [block["option"] for block in report.blocks] == [
        "pip install 'clipviz[words]'",
        "--describe-classes",
    ]
    assert report.blocks[0]["text"].startswith("Figure 3.4, common words: needs `pip install")
    pools.say_what_is_missing(report, other, True, "Figure 3.4")
    assert len(report.blocks) == 3
    pools.say_what_is_missing(report, model, False, "Figure 3.4")  # the demo world has neither
    assert len(report.blocks) == 3


def test_a_describer_may_be_named(evaluation, monkeypatch):
    monkeypatch.setattr(
        pools, "load_describer", lambda name: lambda class_name: [f"{name} {len(class_name)}", "x"]
    )
    found = pools.text_pools(SimpleNamespace(bundle=None), evaluation, None, "a-language-model")
    assert list(found["class descriptions"]) == ["a-language-model 3", "x"]


def test_classes_are_described_once_by_every_writer(evaluation, tmp_path):
    asked = []

    class Writer:
        name = "first"

        def __call__(self, class_name):
            asked.append(class_name)
            return [
                f"Photo of an {class_name.upper()}",
                "Image taken  outdoors",
                f"{self.name} on {len(asked)}",
            ]

    writer, steps = Writer(), Steps(tmp_path, {})
    found = pools.text_pools(SimpleNamespace(bundle=None), evaluation, None, writer, steps)[
        "class descriptions"
    ]
    assert list(found) == ["Image taken outdoors", "first on 1", "first on 2"]
    again = pools.class_descriptions(["owl", "car"], writer, Steps(tmp_path, {}))
    assert asked == ["owl", "car"]
    assert list(again) == list(found)
    writer.name = "second"
    assert "second on 3" in pools.class_descriptions(["owl", "car"], writer, Steps(tmp_path, {}))
    assert asked == ["owl", "car"] * 2
    with pytest.raises(ValueError, match=r"expected descriptions of 1 classes, got 0 from function"):
        pools.class_descriptions(["owl"], lambda name: [])


def test_random_vectors_are_gaussian_and_as_many_as_descriptions(model):
    known = {"descriptions": Texts([f"{n} ducks" for n in range(40)]), "few": Texts(["a", "b"])}
    found = pools.encoded_pools(model, known)
    assert list(found) == ["descriptions", "few", "random vectors"]
    torch.testing.assert_close(found["few"], model.encode_texts(["a", "b"]))
    assert found["random vectors"].shape == found["descriptions"].shape
    assert float(found["random vectors"].var()) == pytest.approx(1, abs=0.05)
