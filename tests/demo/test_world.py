"""The demo world: what is drawn, written and tabulated about a scene agrees."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import pytest

from clipviz.demo import world
from clipviz.demo.world import vocabulary as words
from clipviz.demo.world.captions import FACTS, facts
from clipviz.demo.world.sampling import Theme, sample_scene
from clipviz.demo.world.scene import ATTRIBUTE_COLUMNS, OBJECT, OWN_COLOUR, VOCABULARIES

_DIGEST = """
import hashlib, json
from clipviz.demo import world
parts = [world.render(60, 7), world.render(12, 8, unseen_views=True), world.spurious(2, 9), world.scene("a duck", 3)]
state = hashlib.sha256()
for scenes in parts:
    state.update(scenes.images.tobytes() + scenes.masks.tobytes() + scenes.attributes.tobytes())
    state.update(json.dumps(scenes.captions).encode())
print(state.hexdigest())
"""


@pytest.fixture(scope="module")
def scenes() -> world.Scenes:
    return world.render(600, 0)


def test_same_seed_gives_the_same_bytes_in_two_processes():
    runs = [
        subprocess.Popen([sys.executable, "-c", _DIGEST], stdout=subprocess.PIPE, text=True, env=environment)
        for environment in ({"PYTHONHASHSEED": "1"}, {"PYTHONHASHSEED": "2", "OMP_NUM_THREADS": "1"})
    ]
    first, second = (run.communicate(timeout=600)[0].strip() for run in runs)
    assert len(first) == 64
    assert first == second


def test_other_seeds_give_other_scenes(scenes):
    assert not np.array_equal(world.render(50, 1).images, scenes.images[:50])


def test_a_shorter_render_has_the_same_scenes(scenes):
    assert world.render(20, 0).scenes == scenes.scenes[:20]


def test_render_shapes(scenes):
    assert scenes.images.shape == (600, 96, 96, 3)
    assert scenes.masks.shape == (600, 96, 96)
    assert scenes.images.dtype == scenes.masks.dtype == np.uint8
    assert scenes.attributes.shape == (600, len(ATTRIBUTE_COLUMNS))
    assert all(len(sentences) == 2 for sentences in scenes.captions)


def test_masks_count_what_the_table_counts(scenes):
    drawn = scenes.masks.reshape(len(scenes), -1).max(1)
    assert np.array_equal(drawn, scenes.attribute("count"))
    for mask, count in zip(scenes.masks, scenes.attribute("count"), strict=True):
        assert set(np.unique(mask)) <= set(range(count + 1))


def test_copies_in_a_scene_do_not_overlap(scenes):
    for index in np.flatnonzero(scenes.attribute("count") > 2)[:40]:
        areas = np.bincount(scenes.masks[index].ravel())[1:]
        assert areas.min() > 0.4 * areas.max()


def test_captions_name_only_what_the_table_says(scenes):
    nouns = {kind: set(names) for kind, names in (("object", words.OBJECT_NAMES), ("shape", words.SHAPES))}
    for index, sentences in enumerate(scenes.captions):
        told = {scenes.words("class")[index], scenes.words("second class")[index]} if index < 80 else None
        if told is None:
            break
        for sentence in sentences:
            for name in nouns["object"] | nouns["shape"]:
                if f" {sentence} ".find(f" {name} ") >= 0 and name not in ("star", "moon", "sun", "ring"):
                    assert any(name in told_name for told_name in told if told_name), (name, sentence, told)


def test_captions_and_table_agree_on_the_number(scenes):
    for sentences, count in zip(scenes.captions, scenes.attribute("count"), strict=True):
        for sentence in sentences:
            for number, word in enumerate(words.NUMBERS):
                if number > 1 and f" {word} " in f" {sentence} ".replace("number ", "number_"):
                    assert number == count, sentence


def test_facts_are_values_of_the_table(scenes):
    for index in range(100):
        for family, value in facts(scenes.scenes[index]):
            assert 0 <= value < len(FACTS[family])
            if family in ("background", "treatment", "fill", "style"):
                assert value == scenes.attribute(family)[index]


def test_words_translate_every_column(scenes):
    for column in ATTRIBUTE_COLUMNS:
        values = scenes.words(column)
        assert len(values) == len(scenes)
        if column in VOCABULARIES:
            assert set(values) <= {*VOCABULARIES[column], None}
    with pytest.raises(ValueError, match=r"expected one of kind, .*, got 'colours'"):
        scenes.attribute("colours")


@pytest.mark.parametrize("correlation", [0.5, 0.8, 0.95])
def test_birds_keep_to_their_place_as_often_as_asked(correlation):
    rng, theme = np.random.default_rng(0), Theme(kind=OBJECT)
    groups = np.array([sample_scene(rng, theme, correlation).bird_group for _ in range(4000)])
    assert (groups >= 0).sum() > 250
    assert np.isin(groups[groups >= 0], [0, 3]).mean() == pytest.approx(correlation, abs=0.06)


def test_spurious_groups_are_equal_and_true():
    scenes = world.spurious(10, 0)
    assert np.bincount(scenes.groups).tolist() == [10, 10, 10, 10]
    for group, name, place in zip(
        scenes.groups, scenes.words("class"), scenes.words("background"), strict=True
    ):
        bird = "waterbird" if name in words.WATERBIRDS else "landbird"
        assert words.BIRD_GROUPS[group] == f"{bird}/{place}"


def test_bird_examples_are_at_home_as_often_as_asked():
    scenes = world.bird_examples(20, 3, correlation=0.75)
    assert np.bincount(scenes.groups, minlength=4).tolist() == [15, 5, 5, 15]
    assert (scenes.groups[:20] < 2).all()
    assert all(scene.thing.colour == OWN_COLOUR for scene in scenes.scenes)
    with pytest.raises(ValueError, match="a correlation of 0 to 1, got 80"):
        world.bird_examples(20, 3, correlation=80)


def test_unseen_views_differ_from_all_that_training_shows():
    scenes = world.render(200, 3, unseen_views=True)
    assert set(scenes.words("style")) == {None, words.UNSEEN_STYLE}
    assert words.UNSEEN_STYLE not in world.render(200, 3).words("style")


def test_vocabulary_is_what_the_design_asks_for():
    assert 150 <= len(words.OBJECTS) <= 200
    assert len(words.CLASSES) == len(set(words.CLASSES)) == len(words.OBJECTS) + 12 + 36
    assert words.with_article("apple") == "an apple"
    assert words.with_article("red grapes") == "red grapes"
    assert words.with_article("large red letter a") == "the large red letter a"  # a certain one
    assert words.with_article("number 3") == "the number 3"
    assert words.with_article("striped letter") == "a striped letter"
    assert words.plural_of("butterfly") == "butterflies"


def test_embedded_collection_is_what_its_command_writes(tmp_path, monkeypatch):
    from clipviz.demo.world import archive

    monkeypatch.setattr(archive, "PICTURES_PER_CLASS", {0: 0, 1: 1, 2: 1})
    monkeypatch.setattr(archive, "N_PER_BIRD_GROUP", 1)
    files = [tmp_path / "first.zip", tmp_path / "second.zip"]
    for path in files:
        archive.write_collection(archive.embedded_scenes(1), path)
    first, second = (hashlib.sha256(path.read_bytes()).hexdigest() for path in files)
    assert first == second
