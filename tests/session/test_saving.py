"""A session saved and opened again: the same view and the same numbers; a file of anything else is refused."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

import clipviz
from clipviz.models.dictionaries import Dictionary
from clipviz.session import saving

TEXTS = ["a dog", "in the forest", "a red circle", "two apples"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs")
    pixels = np.random.default_rng(0)
    for i in range(5):
        Image.fromarray(pixels.integers(0, 255, (40, 50, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def saved(model, folder, tmp_path_factory):
    session = clipviz.Session(model, folder, TEXTS, background=False)
    session.heads.set_role(5, 2, "dots")
    session.images.add(Image.new("RGB", (30, 30), "teal"), "a teal square")
    session.view = clipviz.View(
        clipviz.Selection(image=5, layer=5, head=2, text="a dog", ablation=clipviz.Ablation(heads={(5, 1)})),
        {"heatmap": {"scope": "head"}},
    )
    path = session.save(tmp_path_factory.mktemp("saved") / "mine.clipviz")
    told = told_by(session)
    session.heads.set_role(5, 2, "")
    session.close()
    return path, told


def told_by(session):
    return {
        "view": session.view.to_dict(),
        "names": session.images.names,
        "roles": [[*head, role] for head, role in session.heads.roles().items()],
        "effects": session.heads.effects("a dog").heads.tolist(),
        "cosines": session.images.cosines("in the forest").tolist(),
        "texts": list(session.texts.opened),
    }


def test_another_process_opens_the_same_session(saved):
    path, told = saved
    script = (
        "import json, sys; sys.path.insert(0, 'tests'); import clipviz; from session.test_saving import told_by; "
        f"print(json.dumps(told_by(clipviz.Session.load({str(path)!r}, device='cpu', background=False))))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == told


def test_roles_of_a_loaded_session_leave_those_of_this_computer_alone(model, saved):
    session = clipviz.Session.load(saved[0], model, background=False)
    assert session.heads.roles() == {(5, 2): "dots"}
    session.heads.set_role(5, 3, "mine")
    session.close()
    other = clipviz.Session(model, [Image.new("RGB", (30, 30))], TEXTS, background=False)
    assert other.heads.roles() == {}
    other.close()


def test_other_images_texts_and_models_are_refused(model, folder, saved, tmp_path):
    path, _ = saved
    Image.new("RGB", (40, 50), "red").save(tmp_path / "0.png")
    with pytest.raises(ValueError, match="expected images with the content that the session was saved with"):
        clipviz.Session.load(path, model, images=tmp_path)
    with pytest.raises(ValueError, match="expected texts with the content that the session was saved with"):
        clipviz.Session.load(path, model, texts=[*TEXTS, "another"])
    facts = changed(
        path, tmp_path / "other.clipviz", lambda facts: facts["model"].update(fingerprint="0" * 64)
    )
    with pytest.raises(ValueError, match="expected a model with the weights that the session was saved with"):
        clipviz.Session.load(facts, model)


def test_images_that_were_objects_have_to_be_given_again(model, tmp_path):
    pictures = [Image.new("RGB", (30, 30), colour) for colour in ("red", "blue")]
    session = clipviz.Session(model, pictures, TEXTS, background=False)
    path = session.save(tmp_path / "objects.clipviz")
    session.close()
    with pytest.raises(
        ValueError, match=r"expected the images of the session, .* pass them again as images="
    ):
        clipviz.Session.load(path, model)
    again = clipviz.Session.load(path, model, images=pictures, background=False)
    assert len(again.images) == 2
    again.close()


@pytest.mark.parametrize(
    "change",
    [
        lambda facts: facts.update(format=2),
        lambda facts: facts.pop("view"),
        lambda facts: facts.update(model=[]),
        lambda facts: facts["model"].update(name=3),
        lambda facts: facts["model"].update(pretrained=3),
        lambda facts: facts.update(roles=[["5", 2, "x"]]),
        lambda facts: facts.update(added=[{"name": "x"}]),
        lambda facts: facts.update(added=[{"name": "x", "drawn": False}] * 3),
        lambda facts: facts["images"].update(source={}),
    ],
)
def test_a_changed_file_is_refused(model, saved, tmp_path, change):
    with pytest.raises(ValueError, match=r"expected a file that Session\.save wrote"):
        clipviz.Session.load(changed(saved[0], tmp_path / "changed.clipviz", change), model)


def test_a_file_of_anything_else_is_refused(model, tmp_path):
    other = tmp_path / "notes.txt"
    for content in (b"", b"notes", b"PK\x03\x04" + bytes(40)):
        other.write_bytes(content)
        with pytest.raises(ValueError, match=r"expected a file that Session\.save wrote"):
            clipviz.Session.load(other, model)
    with pytest.raises(ValueError, match=r"expected a file that Session\.save wrote"):
        clipviz.Session.load(tmp_path / "nothing.clipviz", model)


def test_a_member_that_would_grow_large_is_refused(model, saved, tmp_path, monkeypatch):
    monkeypatch.setattr(saving, "LARGEST", 100)
    with pytest.raises(ValueError, match="more than"):
        clipviz.Session.load(saved[0], model)


def test_many_members_that_would_grow_large_together_are_refused(model, saved, tmp_path, monkeypatch):
    monkeypatch.setattr(saving, "LARGEST_ALL", 1000)
    with pytest.raises(ValueError, match="MB together"):
        clipviz.Session.load(saved[0], model)


def test_a_folder_that_is_not_there_is_named(model, saved, tmp_path):
    session = clipviz.Session.load(saved[0], model, background=False)
    with pytest.raises(ValueError, match=r"create .* first"):
        session.save(tmp_path / "nowhere" / "mine.clipviz")
    session.close()


def changed(path, target, change):
    """A copy of a saved session whose description was changed."""
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(target, "w") as other:
        for name in archive.namelist():
            content = archive.read(name)
            if name == saving.DESCRIPTION:
                facts = json.loads(content)
                change(facts)
                content = json.dumps(facts).encode()
            other.writestr(name, content)
    return target


def test_a_dictionary_of_the_session_has_to_be_given_again(model, tmp_path):
    pictures = [Image.new("RGB", (30, 30), colour) for colour in ("red", "blue", "green")]
    width = model.weights.d_model
    rows = torch.eye(width)[:6]
    features = Dictionary(3, "residual", rows, torch.zeros(6), rows, torch.zeros(width), "topk", k=2)
    session = clipviz.Session(model, pictures, TEXTS, background=False)
    session.neurons.use(features, "mine")
    session.open(neuron=("mine", 4))
    path = session.save(tmp_path / "features.clipviz")
    session.close()
    with pytest.raises(ValueError, match="expected the dictionary 'mine' that the session used"):
        clipviz.Session.load(path, model, images=pictures)
    again = clipviz.Session.load(
        path, model, images=pictures, dictionaries={"mine": features}, background=False
    )
    assert (again.selection.dictionary, again.selection.neuron) == ("mine", 4)
    again.close()
