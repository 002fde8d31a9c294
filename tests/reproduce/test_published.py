"""Published numbers: consistent with each other as the thesis has them, and named by whether the data are the same."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from clipviz.reproduce import evaluation, published
from clipviz.reproduce.chapter2 import chapter as chapter2
from clipviz.reproduce.report import Report

MODELS = ("ViT-B-16", "ViT-L-14", "ViT-H-14")


@pytest.mark.parametrize("name", MODELS)
def test_numbers_that_two_tables_print_are_the_same(name):
    assert published.TABLE_2_1[name][0] == published.TABLE_A_1[name][0]
    groups = published.TABLES_A_8_TO_10[name]
    base, _, ours = published.TABLE_2_3[name]
    assert min(before for before, _ in groups.values()) == base
    assert min(after for _, after in groups.values()) == ours


def test_published_numbers_are_known_by_their_weights():
    assert published.for_model(published.TABLE_2_1, "ViT-L/14", "laion2b_s32b_b82k") == (0.7525, 0.7412)
    assert published.for_model(published.TABLE_2_1, "ViT-L-14", "openai") is None
    assert published.for_model(published.TABLE_2_1, "ViT-B-32", "laion2b_s34b_b79k") is None
    assert published.chapter_3_model("ViT-B/32", "openai")
    assert not published.chapter_3_model("ViT-B-32", "laion2b_s34b_b79k")


def test_the_thesis_data_are_known_by_what_they_are():
    ids = [f"n{k:08d}" for k in range(1000)]
    birds = (range(published.N_WATERBIRDS), None)
    found = evaluation.the_published(ids, "gtsegs_ijcv.mat", birds)
    assert found == {"ImageNet": True, "ImageNet-Segmentation": True, "Waterbirds": True}
    found = evaluation.the_published(["cat", *ids[1:]], "masks/", (range(100), None))
    assert not any(found.values())
    assert published.heading("ImageNet", True) == "thesis, ImageNet"
    assert published.heading("ImageNet", False) == "published, on ImageNet"


@pytest.mark.parametrize(
    ("data", "said"), [({"Waterbirds"}, "thesis, Waterbirds"), ((), "published, on Waterbirds")]
)
def test_groups_stand_beside_the_published_ones_of_classes_by_name(data, said, tmp_path):
    model = SimpleNamespace(name="ViT-L-14", pretrained="laion2b_s32b_b82k")
    report, found = Report(tmp_path, "any"), SimpleNamespace(published=frozenset(data))
    groups = {"landbird on water": (0.5, 0.6, 0.7), "waterbird on water": (0.9, 0.8, 0.85)}
    for classes in ("names", "examples"):
        chapter2._groups_table(report, model, found, groups, (0.5, 0.6, 0.7), (0.7, 0.8), classes)
    by_name, by_example = report.blocks
    assert by_name["head"][-2:] == [f"{said}: base", "token decomposition"]
    assert by_name["rows"][0] == ["landbird on water", "0.500", "0.600", "0.700", "0.477", "0.729"]
    assert by_name["rows"][-2:] == [
        ["worst group", "0.500", "0.600", "0.700", "0.477", "0.729"],
        ["all", "0.700", "–", "0.800", "0.731", "0.842"],
    ]
    assert len(by_example["head"]) == len(by_example["rows"][0]) == 4
