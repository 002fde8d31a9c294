"""Write the embedded collection: python -m clipviz.demo.world.archive PATH.

About 2,000 pictures balanced over classes, backgrounds, layouts and treatments, the four bird/place groups in equal
numbers. The archive holds images/NNNNN.webp, masks/NNNNN.png (0 background, k the k-th thing), captions.json
(a list of sentences per image) and attributes.json ({"columns", "rows", "vocabularies"}; null: does not apply).
"""

from __future__ import annotations

import argparse
import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from clipviz.demo.world import vocabulary as words
from clipviz.demo.world.sampling import Theme, bird_scene, sample_scene
from clipviz.demo.world.scene import EMPTY, GLYPH, OBJECT, SHAPE, VOCABULARIES, Scene
from clipviz.demo.world.scenes import Scenes, compose

N_PER_BIRD_GROUP = 80
PICTURES_PER_CLASS = {OBJECT: 6, SHAPE: 20, GLYPH: 9}
PICTURES_PER_EMPTY_BACKGROUND = 4
_LAYOUTS = ("single", "several", "single", "pair", "single")
_TREATED_EVERY = 5
_CAPTIONS = 3


def balanced_scenes(rng: np.random.Generator) -> list[Scene]:
    """Return scenes in which every class, background, layout and treatment has its share, in random order."""
    wanted = [
        (kind, word)
        for kind, names in ((OBJECT, words.OBJECTS), (SHAPE, words.SHAPES), (GLYPH, words.GLYPHS))
        for word in range(len(names))
        for _ in range(PICTURES_PER_CLASS[kind])
    ]
    wanted += [(EMPTY, -1)] * (PICTURES_PER_EMPTY_BACKGROUND * len(words.BACKGROUNDS))
    backgrounds = _dealt(len(words.BACKGROUNDS), len(wanted), rng)
    scenes = []
    for index, (kind, word) in enumerate(wanted):
        theme = Theme(kind, backgrounds[index], layout=_LAYOUTS[index % len(_LAYOUTS)], plain=True)
        scenes.append(_with_word(sample_scene(rng, theme), word))
    treated = rng.permutation(len(scenes))[::_TREATED_EVERY].tolist()
    for turn, index in enumerate(treated):
        scenes[index] = replace(scenes[index], treatment=1 + turn % (len(words.TREATMENTS) - 1))
    scenes += [
        bird_scene(group, rng) for group in range(len(words.BIRD_GROUPS)) for _ in range(N_PER_BIRD_GROUP)
    ]
    return [scenes[index] for index in rng.permutation(len(scenes)).tolist()]


def _dealt(n_values: int, n: int, rng: np.random.Generator) -> list[int]:
    """Return `n` values dealt from shuffled decks of 0..n_values-1."""
    decks = [rng.permutation(n_values) for _ in range(-(-n // n_values))]
    return list(np.concatenate(decks)[:n].tolist())


def _with_word(scene: Scene, word: int) -> Scene:
    return scene if scene.thing is None else replace(scene, thing=replace(scene.thing, word=word))


def embedded_scenes(seed: int) -> Scenes:
    """Return the rendered scenes of the embedded collection."""
    return compose(balanced_scenes(np.random.default_rng([seed, 4])), seed, n_captions=_CAPTIONS)


def write_collection(scenes: Scenes, path: Path) -> None:
    """Write one zip file whose bytes depend only on the scenes and the image library."""
    table = [[value if value >= 0 else None for value in row] for row in scenes.attributes.tolist()]
    attributes = {"columns": scenes.columns, "rows": table, "vocabularies": VOCABULARIES}
    with zipfile.ZipFile(path, "w") as archive:
        for index in range(len(scenes)):
            image, mask = Image.fromarray(scenes.images[index]), Image.fromarray(scenes.masks[index])
            _add(archive, f"images/{index:05d}.webp", _encoded(image, "WEBP", quality=90, method=6))
            _add(archive, f"masks/{index:05d}.png", _encoded(mask, "PNG", optimize=True))
        _add(archive, "captions.json", json.dumps(scenes.captions).encode(), zipfile.ZIP_DEFLATED)
        _add(archive, "attributes.json", json.dumps(attributes).encode(), zipfile.ZIP_DEFLATED)


def _encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _add(archive: zipfile.ZipFile, name: str, blob: bytes, compression: int = zipfile.ZIP_STORED) -> None:
    info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    info.compress_type = compression
    archive.writestr(info, blob)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", type=Path)
    parser.add_argument("--seed", type=int, default=2_000_003)
    options = parser.parse_args(arguments)
    scenes = embedded_scenes(options.seed)
    write_collection(scenes, options.path)
    print(f"{options.path}: {len(scenes)} images, {options.path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
