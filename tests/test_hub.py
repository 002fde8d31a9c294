"""Dictionaries, indexes and sessions go to the Hub and come back the same, through a local stand-in."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from stand_in_hub import stand_in

PUSH = """import sys, numpy as np, clipviz
folder, model = sys.argv[1], clipviz.load("demo")
images = [np.full((64, 64, 3), shade, np.uint8) for shade in (10, 90, 200)]
index = clipviz.Index.build(model, images, folder + "/index", thumbnail=32)
print(index.push_to_hub("me/pictures"))
print(clipviz.load_dictionary().push_to_hub("me/features", private=True))
session = clipviz.Session(model, images)
session.select(image=2, layer=4, head=3, text="a red circle")
session.heads.set_role(4, 3, "mine")
print(session.push_to_hub("me/view"))
session.close()"""
PULL = """import sys, numpy as np, torch, clipviz
folder, model = sys.argv[1], clipviz.load("demo")
images = [np.full((64, 64, 3), shade, np.uint8) for shade in (10, 90, 200)]
mine, pulled = clipviz.Index.open(folder + "/index"), clipviz.Index.from_hub("me/pictures")
assert clipviz.Index.verify(pulled.path) == []
assert np.array_equal(mine.codes().codes, pulled.codes().codes) and pulled.fingerprint == mine.fingerprint
assert pulled.thumbnail_jpeg(1) == mine.thumbnail_jpeg(1)
own = clipviz.Index.from_hub("me/pictures", path=folder + "/copy")
assert len(own.append(model, images[:1])) == 4 and len(clipviz.Index.from_hub("me/pictures")) == 3
found, known = clipviz.Dictionary.from_hub("me/features"), clipviz.load_dictionary()
for name in ("encoder", "encoder_bias", "decoder", "bias"):
    assert torch.equal(getattr(found, name), getattr(known, name)), name
assert (found.layer, found.point, found.activation, found.k) == (known.layer, known.point, known.activation, known.k)
session = clipviz.Session.load("hf://datasets/me/view", model=model, images=images)
assert (session.selection.layer, session.selection.head, session.selection.text) == (4, 3, "a red circle")
assert session.heads.roles()[4, 3] == "mine"
session.close()
for wrong in (lambda: clipviz.Index.from_hub("me/none"), lambda: clipviz.Index.from_hub("me/features"),
              lambda: clipviz.Dictionary.from_hub("no name at all"),
              lambda: clipviz.Session.load("hf://datasets/me/view@gone")):
    try:
        wrong()
    except ValueError as error:
        print("refused:", error)
"""


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub")
    with stand_in() as (variables, repositories, asked):

        def run(code):
            own = {"HF_HOME": str(folder / "home"), "CLIPVIZ_CACHE": str(folder / "cache")}
            done = subprocess.run(
                [sys.executable, "-c", code, str(folder)],
                env={**os.environ, **variables, **own},
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr[-3000:]
            return done.stdout.splitlines()

        yield run, repositories, asked


def test_what_was_pushed_comes_back_the_same_and_nothing_else_is_downloaded(hub):
    run, repositories, asked = hub
    addresses = run(PUSH)
    assert [one.partition(":")[0] for one in addresses] == ["http"] * 3
    assert set(repositories) == {"datasets/me/pictures", "models/me/features", "datasets/me/view"}
    assert set(repositories["models/me/features"]) == {"cfg.json", "sae_weights.safetensors"}
    assert set(repositories["datasets/me/view"]) == {"session.clipviz"}
    assert "manifest.json" in repositories["datasets/me/pictures"]
    for files in repositories.values():
        files["run_me.py"] = b"raise SystemExit(1)"
        files["weights.pt"] = b"a pickle"
    asked.clear()
    told = run(PULL)
    assert not [one for one in asked if "run_me" in one or "weights.pt" in one]
    assert [line.partition(":")[0] for line in told if line.startswith("refused")] == ["refused"] * 4
    assert "expected a repository of the Hugging Face Hub, got 'me/none'" in told[0]
