"""Dictionaries, indexes and sessions go to the Hub and come back the same, through a local stand-in."""

from __future__ import annotations

import os
import subprocess
import sys

from stand_in_hub import stand_in

THERE_AND_BACK = """import sys, numpy as np, torch, clipviz
folder, model = sys.argv[1], clipviz.load("demo")
images = [np.full((64, 64, 3), shade, np.uint8) for shade in (10, 90, 200)]
index = clipviz.Index.build(model, images, folder + "/index", thumbnail=32)
print(index.push_to_hub("me/pictures"))
print(clipviz.load_dictionary().push_to_hub("me/features", private=True))
session = clipviz.Session(model, images)
session.select(image=2, layer=4, head=3, text="a red circle")
session.heads.set_role(4, 3, "mine")
print(session.push_to_hub("me/view"), flush=True)
session.close()
sys.stdin.readline()
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


def test_what_was_pushed_comes_back_the_same_and_nothing_else_is_downloaded(tmp_path):
    with stand_in() as (variables, repositories, asked), open(tmp_path / "errors", "w+") as errors:
        own = {"HF_HOME": str(tmp_path / "home"), "CLIPVIZ_CACHE": str(tmp_path / "cache")}
        with subprocess.Popen(
            [sys.executable, "-c", THERE_AND_BACK, str(tmp_path)],
            env={**os.environ, **variables, **own},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process:
            addresses = [process.stdout.readline() for _ in range(3)]
            for files in repositories.values():
                files |= {"run_me.py": b"raise SystemExit(1)", "weights.pt": b"a pickle"}
            pushed = {name: set(files) - {"run_me.py", "weights.pt"} for name, files in repositories.items()}
            asked.clear()
            told = process.communicate("\n")[0].splitlines()
        errors.seek(0)
        assert process.returncode == 0, errors.read()[-3000:]
    assert [one.partition(":")[0] for one in addresses] == ["http"] * 3
    assert set(pushed) == {"datasets/me/pictures", "models/me/features", "datasets/me/view"}
    assert pushed["models/me/features"] == {"cfg.json", "sae_weights.safetensors"}
    assert pushed["datasets/me/view"] == {"session.clipviz"}
    assert "manifest.json" in pushed["datasets/me/pictures"]
    assert not [one for one in asked if "run_me" in one or "weights.pt" in one]
    assert [line.partition(":")[0] for line in told] == ["refused"] * 4
    assert "expected a repository of the Hugging Face Hub, got 'me/none'" in told[0]
