"""Reports draw their figures as SVG alone, but one of each kind of chapter 2's in every format; searches are
short, and chance is drawn less often."""

from __future__ import annotations

import inspect
from functools import partial

import pytest

from clipviz.analysis.generation import inversion, starts
from clipviz.analysis.heads import labels
from clipviz.figures import chapter2, chapter3, chapter4, style, world
from clipviz.lens.invert import Schedule
from clipviz.reproduce.chapter3 import chapter as chapter3_report
from clipviz.reproduce.chapter3 import neuron_texts
from clipviz.reproduce.chapter4 import any_generator, concept_pages, editing, inverting
from clipviz.reproduce.chapter4 import chapter as chapter4_report
from clipviz.reproduce.report import Report
from clipviz.reproduce.world import chapter as world_report
from clipviz.reproduce.world import measures as world_measures
from clipviz.reproduce.world import summary as world_summary


@pytest.fixture(scope="package")
def every_format():
    """The function that saves a figure as the command does."""
    return style.save


@pytest.fixture(scope="package", autouse=True)
def one_format(every_format):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(style, "save", partial(every_format, formats=("svg",)))
        yield


@pytest.fixture
def undrawn(monkeypatch):
    """No figure is drawn or saved: for a report whose figures are there already, or of which the text is read."""
    monkeypatch.setattr(style, "save", lambda *_, **__: [])
    for module, name in _figures():
        monkeypatch.setattr(module, name, lambda *_, **__: None)


@pytest.fixture
def drawn(monkeypatch):
    """The name of a function that draws a figure -> what it was asked to draw, each time; nothing is drawn."""
    given = {}

    def noting(name):
        return lambda *values, **_: given.setdefault(name, []).append(values)

    monkeypatch.setattr(style, "save", lambda *_, **__: [])
    monkeypatch.setattr(Report, "interactive", lambda *_: None)
    for module, name in _figures():
        monkeypatch.setattr(module, name, noting(name))
    return given


def _figures():
    """Every function that draws a figure: its module and name."""
    for module in (chapter2, chapter3, chapter4, world):
        for name, made in inspect.getmembers(module, inspect.isfunction):
            if hasattr(made, "__wrapped__") and made.__module__ == module.__name__:
                yield module, name


@pytest.fixture(scope="package", autouse=True)
def short_searches():
    """Few starts and pictures of edits and inversions, tried in one step, and few texts that name units: how well is
    asked elsewhere."""
    pool = chapter4_report.open_pool
    with pytest.MonkeyPatch.context() as patch:
        for name, few in (("SOUGHT", (6, 3, 3)), ("N_DRAWN", 4), ("N_USUAL", 8), ("TRIAL", Schedule(1, 0.1))):
            patch.setattr(starts, name, few)
        patch.setattr(inversion, "TRIAL", Schedule(1, 0.1))
        patch.setattr(inverting, "TRIAL", Schedule(1, 0.1))
        for module in (inversion, inverting):
            patch.setattr(module, "N_STARTS", 4)
        patch.setattr(chapter4_report, "open_pool", lambda *given: [*pool(*given)][:100])
        for module in (editing, any_generator):
            patch.setattr(module, "search_for", lambda *_: Schedule(1, 0.1))
        patch.setattr(
            inverting.TargetSizes, "within", lambda _: inverting.TargetSizes(2, (2, 2, 2), 2, 2, 12, 1)
        )
        patch.setattr(inverting, "N_TRANSLATED", 1)
        for module in (inverting, editing, any_generator):  # a row in the chapter and one in the appendix
            patch.setattr(module, "N_SHOWN", 1)
            patch.setattr(module, "N_MORE", 1)
        patch.setattr(concept_pages, "single_units", partial(concept_pages.single_units, n=2))
        patch.setattr(concept_pages, "N_TILES", 8)
        yield


@pytest.fixture(scope="package", autouse=True)
def few_draws():
    """A fifth of the usual draws of chance: what a role or an accuracy is by chance is asked elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (labels, world_report, world_measures, world_summary):
            patch.setattr(module, "N_DRAWS", 40)
        patch.setattr(labels, "label_head", partial(labels.label_head, n_draws=40))
        yield


@pytest.fixture(scope="module")
def short_codes():
    """Codes of 4 texts, as many as a neuron's line shows, and few of its images."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (chapter3_report, neuron_texts):
            patch.setattr(module, "QUICK_ATOMS", neuron_texts.N_WORDS)
        for name, few in (("N_GALLERY", 2), ("N_TOP_IMAGES", 3), ("N_SHEET", 6)):
            patch.setattr(neuron_texts, name, few)
        yield


@pytest.fixture(scope="module")
def study(model, short_codes, tmp_path_factory):
    """Chapter 3 on 20 pictures, 20 others as reference."""
    return chapter3_report.open_study(
        model, tmp_path_factory.mktemp("study"), limit=20, quiet=True, quick=True
    )
