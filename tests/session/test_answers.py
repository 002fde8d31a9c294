"""Every answer of a topic is a table: by its annotation, which a new one cannot avoid, and when it is asked."""

from __future__ import annotations

import ast
import inspect

import pytest

import clipviz
from clipviz.session import answers
from clipviz.values.tables import Table

pytestmark = pytest.mark.usefixtures("few_rotations")

TOPICS = ("images", "texts", "heads", "maps", "ablation", "neurons", "cues", "rosetta", "generator")
PLAIN = {"None", "bool", "int", "float", "str", "tuple", "range", "Head", "Iterator", "Tensor"}
"""Numbers, names and vectors, which other questions take."""
TOOLS = {
    "Ablation": "a set of heads, which questions take",
    "Dictionary": "a model's directions, which questions take",
    "Image": "a picture, which a notebook shows itself",
    "ImageCodes": "what is known of a collection, for an analysis",
    "Images": "the collection, for another session",
    "Source": "words and codes, which session.cues.find takes",
    "Studio": "who writes and draws",
    "Texts": "the pool, for another session",
    "Trace": "one image's forward pass, with questions of its own",
    "Workbench": "the picture in hand of the Generate desk",
}
MODELS = {
    ("generator", "model"),
    ("generator", "readers"),
    ("rosetta", "partners"),
    ("neurons", "dictionaries"),
}
"""Networks by name, which are no answers."""
ASKED = {
    "heads.effects": ("a dog", 0),
    "heads.textspan": (5, 0, 3, (), 2),
    "heads.label": (5, 0),
    "heads.variance": (),
    "heads.find": ("the sea",),
    "heads.kept": None,
    "heads.roles": (),
    "images.search": ("a dog", 3),
    "images.neighbours": (0, None, None, 3),
    "images.atlas": (),
    "images.atlas_words": (),
    "images.percentiles": ("a dog", 0),
    "images.familiarity": (0,),
    "images.columns": (),
    "images.names": None,
    "images.picture": (0,),
    "images.pixels": (0,),
    "texts.nearest": (0, 2),
    "maps.tokens": ("a dog", 0),
    "maps.compare": ("a dog", 0),
    "maps.joint": (5, 0, 0),
    "maps.truth": (0,),
    "maps.attention": (0,),
    "maps.shared": (0,),
    "ablation.tasks": (),
    "ablation.task": (),
    "ablation.run": (clipviz.Ablation(heads={(5, 0)}),),
    "ablation.project_heads": ([2],),
    "ablation.presets": ("a dog", 0),
    "ablation.desk": (None, 0),
    "neurons.layer": (3,),
    "neurons.find": ("text", 3),
    "neurons.describe": (3, [0, 5], 2),
    "neurons.histogram": (0, 3),
    "neurons.effects": (0, 0, 3),
    "neurons.concepts": (0, 3, 2),
    "rosetta.units": (),
}


@pytest.fixture(scope="module")
def session(model):
    made = clipviz.Session(
        model, clipviz.demo.images().subset(range(12)), ["a dog", "a cat", "the sea"], background=False
    )
    yield made
    made.close()


def names_of(annotation):
    """The classes that an annotation names, without those of its parts."""
    if isinstance(annotation, ast.BinOp):
        return names_of(annotation.left) | names_of(annotation.right)
    if isinstance(annotation, ast.Subscript):
        return names_of(annotation.value)
    return {ast.unparse(annotation).rpartition(".")[2]}


def annotations():
    """(topic, name, what its answer is annotated as) of everything public of every topic."""
    session_type = vars(inspect.getmodule(clipviz.Session))
    for topic in TOPICS:
        owner = next(
            one for one in session_type.values() if inspect.isclass(one) and one.__module__.endswith(f"topics.{topic}")
            and one.__name__.endswith("Topic")
        )  # fmt: skip
        for name, made in vars(owner).items():
            if name.startswith("_"):
                continue
            function = made.fget if isinstance(made, property) else getattr(made, "__func__", made)
            yield topic, name, inspect.signature(function).return_annotation


def is_table(name):
    """Whether the class of this name is a table."""
    found = getattr(answers, name, None)
    return name == "Ranked" or (inspect.isclass(found) and issubclass(found, Table))


def test_every_answer_of_a_topic_is_a_table_by_its_annotation():
    seen, wrong = 0, []
    for topic, name, annotation in annotations():
        assert isinstance(annotation, str), (topic, name, "has no annotation")
        seen += 1
        others = names_of(ast.parse(annotation, mode="eval").body) - PLAIN - set(TOOLS)
        if (topic, name) not in MODELS and not all(map(is_table, others)):
            wrong.append((topic, name, annotation))
    assert seen > 80
    assert wrong == []


@pytest.mark.parametrize("name", ASKED)
def test_an_answer_reads_well_and_is_a_frame(session, name):
    topic, _, question = name.partition(".")
    asked = getattr(getattr(session, topic), question)
    answer = asked if ASKED[name] is None else asked(*ASKED[name])
    assert isinstance(answer, Table)
    said = repr(answer)
    assert said
    assert " at 0x" not in said
    assert "tensor(" not in said
    assert len(said.splitlines()) <= 12
    assert answer._repr_html_().startswith("<div")
    frame = answer.to_frame("dict")
    assert len({len(column) for column in frame.values()}) == 1
    assert list(answer.to_frame()) == list(frame)


def test_effects_as_a_frame_add_up_to_the_cosine(session):
    found = session.heads.effects("a dog", 0)
    frame = found.to_frame("dict")
    assert frame["effect"].sum() == pytest.approx(found.cosine, abs=1e-5)
    heads = {
        (layer, head): value
        for part, layer, head, value in zip(*frame.values(), strict=True)
        if part == "head"
    }
    assert heads[5, 3] == found.heads[5, 3]
    mlps = {layer: value for part, layer, _, value in zip(*frame.values(), strict=True) if part == "mlp"}
    assert mlps[5] == found.mlps[6]
    assert frame["part"].tolist().count("input") == 1


def test_tokens_as_a_frame_are_the_scores(session):
    found = session.maps.tokens("a dog", 0)
    frame = found.to_frame("dict")
    at = (frame["layer"] == 4) & (frame["head"] == 2) & (frame["token"] == 7)
    assert frame["effect"][at].tolist() == [found.scores[4, 2, 7]]


def test_an_outcome_as_a_frame_is_its_rows(session):
    found = session.ablation.run(clipviz.Ablation(heads={(5, 0)}))
    frame = found.to_frame("dict")
    assert frame["images"][0] == "all images"
    assert frame["before"][0] == found.before.top1
    assert frame["after"][0] == found.after.top1
    assert frame["change"][0] == found.change.value


def test_found_images_are_shown_as_pictures(session):
    page = session.images.search("a dog", 3)._repr_html_()
    assert page.count("data:image/png;base64,") == 3


def test_a_caption_is_never_markup(model):
    pictures = clipviz.demo.images().subset(range(4))
    hostile = clipviz.Session(model, pictures, ["<script>alert(1)</script>", "a dog"], background=False)
    page = hostile.texts.nearest(0)._repr_html_()
    hostile.close()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
