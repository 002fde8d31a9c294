"""Hostile files: changed bytes in pictures, tars, indexes, dictionaries and texts; strange names, trees and paths."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from clipviz.data import decode, dictionary
from clipviz.data.checksums import with_checksum
from clipviz.data.images import open_images
from clipviz.data.store.layout import BLOBS, Shard
from clipviz.data.store.writer import Writer
from clipviz.data.texts import open_texts
from clipviz.indexing import Index
from clipviz.values import Concepts

from .tally import Tally

N_PICTURES = 8
KINDS: dict[str, dict[str, Any]] = {
    "PNG": {},
    "JPEG": {},
    "GIF": {},
    "BMP": {},
    "TIFF": {},
    "WEBP": {},
    "PPM": {},
    "TGA": {},
    "ICO": {},
}


def picture(seed: int) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 24, 3), np.uint8)
    return Image.fromarray(pixels)


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **KINDS.get(kind, {}))
    return stream.getvalue()


def mutated(content: bytes, rng: random.Random) -> bytes:
    """Some bytes flipped, set, cut out, doubled or zeroed, or the end cut off."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 6))):
        at = rng.randrange(max(len(data), 1))
        span = min(rng.choice((1, 4, 64, 512, 700)), len(data) - at)
        kind = rng.randrange(7)
        if not data:
            break
        if kind == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[at] = rng.choice((0, 255, 0x7F, 0x80, ord("0"), rng.randrange(256)))
        elif kind == 2:
            data[at : at + span] = bytes(span)
        elif kind == 3:
            del data[at : at + span]
        elif kind == 4:
            data[at:at] = data[at : at + span]
        elif kind == 5:
            data[at : at + span] = rng.randbytes(span)
        else:
            del data[at:]
    return bytes(data)


def banded(seed: int) -> Image.Image:
    """A picture whose middle is black, so that its uncompressed file has holes."""
    made = picture(seed).resize((40, 40))
    made.paste((0, 0, 0), (0, 8, 40, 32))
    return made


def with_holes(content: bytes) -> list[tuple[int, int]]:
    """The (place, bytes) of a file that are not blocks of zeros, as GNU tar stores them with --sparse."""
    blocks = [at for at in range(0, len(content), 512) if any(content[at : at + 512])]
    return [(at, len(content[at : at + 512])) for at in blocks]


def sparse_member(name: str, content: bytes, kind: str) -> bytes:
    """One file with holes as GNU tar writes it: kind "gnu", with the map in its header, or "pax", behind it."""
    pieces = with_holes(content)
    stored = b"".join(content[place : place + n] for place, n in pieces)
    if kind == "pax":
        numbers = [len(pieces), *(number for piece in pieces for number in piece)]
        table = "".join(f"{number}\n" for number in numbers).encode()
        stored = table + bytes(-len(table) % 512) + stored
        info = tarfile.TarInfo(f"GNUSparseFile.0/{name}")
        info.size = len(stored)
        known = {"major": "1", "minor": "0", "name": name, "realsize": str(len(content))}
        info.pax_headers = {f"GNU.sparse.{key}": value for key, value in known.items()}
        head = bytearray(info.tobuf(tarfile.PAX_FORMAT))
    else:
        info = tarfile.TarInfo(name)
        info.size, info.type = len(stored), tarfile.GNUTYPE_SPARSE
        head = bytearray(info.tobuf(tarfile.GNU_FORMAT))
        field = "".join(f"{number:011o}\0" for piece in pieces[:4] for number in piece).encode()
        head[386 : 386 + len(field)] = field
        head[482] = len(pieces) > 4
        head[483:495] = f"{len(content):011o}\0".encode()
        for at in range(4, len(pieces), 21):
            field = "".join(f"{number:011o}\0" for piece in pieces[at : at + 21] for number in piece).encode()
            head += field.ljust(504, b"\0") + bytes([len(pieces) > at + 21]) + bytes(7)
        head[148:156] = b" " * 8
        head[148:156] = f"{sum(head[:512]):06o}\0 ".encode()
    return bytes(head) + stored + bytes(-len(stored) % 512)


def sparse_tar(originals: list[Image.Image], kind: str) -> tuple[bytes, list[int]]:
    """Pictures with holes in a tar, and where each begins."""
    whole, starts = b"", []
    for i, image in enumerate(originals):
        stream = io.BytesIO()
        image.save(stream, "PNG", compress_level=0)
        starts.append(len(whole))
        whole += sparse_member(f"{i}.png", stream.getvalue(), kind)
    return whole + bytes(10240), starts


def plain_tar(originals: list[Image.Image], kind: int) -> tuple[bytes, list[int]]:
    """Pictures in a tar as tarfile writes it, and where each begins."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=kind) as archive:
        for i, image in enumerate(originals):
            info = tarfile.TarInfo(f"{'long/' * (30 * (i % 2))}{i}\u00fc.png")
            content = encoded(image)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        starts = [info.offset for info in archive.getmembers()]
    return stream.getvalue(), starts


def tars(attempts: int, seed: int) -> Tally:
    """A changed tar gives pictures as they were written, and says so when any is missing."""
    tally, rng = Tally("tars"), random.Random(seed)
    plain, holed = ([make(i) for i in range(N_PICTURES)] for make in (picture, banded))
    known = {image.tobytes() for image in (*plain, *holed)}
    kinds: list[Any] = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, "gnu", "pax"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "t.tar")
        for kind in kinds:
            whole, starts = sparse_tar(holed, kind) if isinstance(kind, str) else plain_tar(plain, kind)
            for turn in range(-(-attempts // len(kinds))):
                content = mutated_headers(whole, rng) if turn % 2 else mutated(whole, rng)
                path.write_bytes(content)
                tally.attempt(
                    f"tar {kind} {turn}",
                    lambda same=content == whole, starts=starts: _tar(path, known, same, starts),
                )
    return tally


def mutated_headers(content: bytes, rng: random.Random) -> bytes:
    """A changed header of a file with a checksum that fits."""
    data = bytearray(content)
    heads = [at for at in range(0, len(data), 512) if data[at + 257 : at + 262] == b"ustar"]
    heads = [at for at in heads if data[at + 156 : at + 157] in (b"0", b"S")]
    at = rng.choice(heads)
    first, last = rng.choice(((0, 100), (124, 136), (156, 157), (157, 257), (345, 500), (386, 495)))
    for _ in range(rng.choice((1, 2, 12))):
        data[at + rng.randrange(first, last)] = rng.choice(
            (0, 255, 0x80, ord("7"), ord("x"), rng.randrange(256))
        )
    if rng.random() < 0.2:
        data[at + 156] = rng.choice(b"xXgLK")
    data[at + 148 : at + 156] = b" " * 8
    data[at + 148 : at + 156] = f"{sum(data[at : at + 512]):06o}\0 ".encode()
    return bytes(data)


def _tar(path: Path, known: set[bytes], same: bool, starts: list[int]) -> None:
    images = open_images(path)
    places = [
        (image.offset, image.offset + (sum(n for _, n in image.pieces) or image.size))
        for image in images._sources
    ]
    if any(begin < start < end for begin, end in places for start in starts):
        return  # a file that says it holds the next ones: a whole tar, to any reader
    assert all(image.tobytes() in known for image in images), "a picture that was never written"
    assert len(images) >= N_PICTURES or images.skipped, f"{len(images)} pictures and no word of the others"
    assert not same or (len(images) == N_PICTURES and not images.skipped)
    assert len(images.fingerprint) == 12
    "".join([*images.names, *(reason for _, reason in images.skipped)]).encode()


def pictures(attempts: int, seed: int) -> Tally:
    """Changed bytes of a picture give a small picture or BrokenImage; a PNG is as it was or broken."""
    tally, rng = Tally("pictures"), random.Random(seed)
    original = picture(0)
    contents = {kind: encoded(original, kind) for kind in KINDS}
    for turn in range(attempts):
        kind = rng.choice(sorted(contents))
        content = mutated(contents[kind], rng)
        tally.attempt(f"{kind} {turn}", lambda k=kind, c=content: _picture(k, c, original))
    return tally


def _picture(kind: str, content: bytes, original: Image.Image) -> None:
    found = decode.read_image(content)
    assert found.mode == "RGB"
    assert found.width * found.height <= decode.MAX_PIXELS
    if kind == "PNG" and content[:8] == b"\x89PNG\r\n\x1a\n":
        assert found.tobytes() == original.tobytes(), "a changed PNG was served"


DIMS = {"n_layers": 1, "n_heads": 2, "d_head": 2, "d_embed": 3}


def small_index(folder: Path) -> Index:
    """Seven images in two segments, random numbers."""
    rng = np.random.default_rng(0)
    plan = {
        "model": {"name": "tiny", "pretrained": "", "fingerprint": "f"},
        "layers": [0],
        "dims": DIMS,
        "settings": {"shard": 4, "neurons": []},
        "images": [{"fingerprint": "a", "count": 7}],
        "shards": 2,
        "library": "0",
    }
    with Writer(folder, plan, lambda total, part, _: part if total is None else total) as writer:
        for rows in (4, 3):
            arrays = {
                "codes.npy": rng.normal(size=(rows, 1, 2, 2)).astype(np.float16),
                "embedding.npy": rng.normal(size=(rows, 3)).astype(np.float16),
                "mean.npy": rng.normal(size=rows).astype(np.float32),
                "std.npy": 1 + rng.random(rows).astype(np.float32),
            }
            blobs = {name: [f"{name}{row}".encode() for row in range(rows)] for name in BLOBS}
            blobs["attributes"] = [b'{"colour":"red"}'] * rows
            statistics = {
                "count": np.array(7),
                "code_mean": np.zeros((1, 2, 4)),
                "code_scatter": np.zeros((1, 2, 4, 4)),
                "embedding_mean": np.zeros(3),
                "mlp_mean": np.zeros((2, 3)),
            }
            writer.commit(Shard(arrays, blobs, statistics))
        writer.finish()
    return Index.open(folder)


def index(attempts: int, seed: int) -> Tally:
    """verify names every change of an index; reading a changed one gives numbers or an error, never a crash."""
    tally, rng = Tally("index"), random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        good = small_index(Path(folder, "good"))
        files = sorted(path.name for path in good.path.iterdir() if path.stat().st_size)
        copy = Path(folder, "copy")
        shutil.copytree(good.path, copy)
        for turn in range(attempts):
            name = rng.choice(files)
            whole = (good.path / name).read_bytes()
            content = mutated(whole, rng)
            (copy / name).write_bytes(content)
            changed = content[: len(whole)] != whole  # longer files are being appended to
            tally.attempt(f"{name} {turn}", lambda c=changed: _index(copy, c))
            (copy / name).write_bytes(whole)
    return tally


def _index(folder: Path, changed: bool) -> None:
    assert bool(Index.verify(folder)) or not changed, "verify found nothing"
    opened = Index.open(folder)
    opened.codes(range(7))
    assert all(isinstance(text, str) for text in (*opened.names, *opened.captions, *opened.paths))
    assert isinstance(opened.attributes, dict)
    assert opened.statistics().count == 7


def concepts(n: int = 5) -> Concepts:
    draw = np.random.default_rng(0)
    return Concepts(
        models=("clip", "cnn"),
        layers=((("a", 9),), (("b", 8),)),
        units=np.stack([draw.integers(0, 9, n), draw.integers(-1, 8, n)], 1),
        correlation=draw.random((n, 2), np.float32),
        heldout=draw.random((n, 2), np.float32),
        cluster=np.arange(n),
        examples=draw.integers(0, 9, (n, 3)),
        n_pairs=np.array([0, 3]),
        n_chance=np.array([0, 1]),
        threshold=np.array([0, 0.5], np.float32),
        labels=("x",) * n,
        hints=(("a text", 0.5),) * n,
    )


def dictionaries(attempts: int, seed: int) -> Tally:
    """No changed byte of a dictionary is served."""
    tally, rng = Tally("dictionaries"), random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "d")
        dictionary.save(concepts(), folder, {"model": "m"}, {i: picture(i) for i in range(3)})
        files = sorted(folder.iterdir())
        for turn in range(attempts):
            path = rng.choice(files)
            whole = path.read_bytes()
            content = mutated(whole, rng)
            path.write_bytes(content)
            tally.attempt(f"{path.name} {turn}", lambda same=content == whole: _dictionary(folder, same))
            path.write_bytes(whole)
    return tally


def _dictionary(folder: Path, same: bool) -> None:
    dictionary.open_folder(folder)
    assert same, "a changed dictionary was served"


ODD: list[Any] = [
    None,
    0,
    -1,
    1 << 70,
    0.5,
    float("nan"),
    float("inf"),
    "",
    "..",
    "/etc/passwd",
    "a" * 3000,
    [],
    {},
]
ODD += [[[]], {"a": []}, True, ["x", 1], "arrays-0123456789abcdef.npz", "pictures-0123456789abcdef.jpg"]


def heads(attempts: int, seed: int) -> Tally:
    """A dictionary whose JSON says something odd, its checksum right, is refused or can be used."""
    tally, rng = Tally("heads"), random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "d")
        dictionary.save(concepts(), folder, {"model": "m"}, {i: picture(i) for i in range(3)})
        good = json.loads((folder / "dictionary.json").read_bytes())
        for turn in range(attempts):
            table = json.loads(json.dumps(good))
            path = _change(table, rng)
            (folder / "dictionary.json").write_bytes(with_checksum(table))
            tally.attempt(f"{path} {turn}", lambda: _use(folder))
    return tally


def _change(table: Any, rng: random.Random) -> str:
    """Replace or drop one value somewhere in a table."""
    place, path = table, ""
    while True:
        key = rng.choice(sorted(place)) if isinstance(place, dict) else rng.randrange(len(place))
        path += f"/{key}"
        if isinstance(place[key], (dict, list)) and place[key] and rng.random() < 0.6:
            place = place[key]
            continue
        if rng.random() < 0.2:
            del place[key]
        else:
            place[key] = rng.choice(ODD)
        return path


def _use(folder: Path) -> None:
    opened = dictionary.open_folder(folder)
    dictionary.summary(opened.concepts)
    for row in range(len(opened.concepts)):
        opened.concepts.name(row).encode("utf-8", "surrogatepass")
        for model in range(len(opened.concepts.models)):
            opened.concepts.where(row, model)
    for image in range(10):
        assert opened.picture(image).size == (dictionary.SIDE, dictionary.SIDE)


def trees(attempts: int, seed: int) -> Tally:
    """Of every folder: what is read and what is named is what is there."""
    tally, rng = Tally("trees"), random.Random(seed)
    for turn in range(attempts):
        with tempfile.TemporaryDirectory() as folder:
            root = os.fsencode(folder)
            n_files = _grow(root, rng, 0)
            tally.attempt(f"tree {turn}", lambda f=folder, n=n_files: _tree(f, n))
    return tally


def _grow(place: bytes, rng: random.Random, depth: int) -> int:
    """Files, links, pipes and folders with strange names; how many things there are that are no folders."""
    count = 0
    for _ in range(rng.randrange(1, 5)):
        stem = bytes(rng.choice(b"ab.x \xe9\xff\n\t'\"$<{}[]*~") for _ in range(rng.randrange(1, 9)))
        name = (
            b"n"
            + stem
            + rng.choice((b".jpg", b".png", b".PNG", b".tar", b".txt", b"", b".jpg.png", b".parquet"))
        )
        path = place + b"/" + name
        if os.path.lexists(path):
            continue
        kind = rng.randrange(8)
        if kind == 0 and depth < 3:
            os.mkdir(path)
            count += _grow(path, rng, depth + 1)
            continue
        count += 1
        if kind == 1:
            os.mkfifo(path)
        elif kind == 2:
            os.symlink(rng.choice((b"nowhere", b".")), path)
        else:
            with open(path, "wb") as stream:
                stream.write(rng.choice((b"", b"no picture", encoded(picture(1)))))
    return count


def _tree(folder: str, n_files: int) -> None:
    try:
        images = open_images(folder)
    except ValueError as error:
        if n_files and f"got {n_files:,} unusable" not in str(error):
            raise AssertionError(f"{n_files}: {error}") from error
        return
    found = len(images) + len(images.skipped)
    assert found == n_files, f"{found} of {n_files}: {images.names} {images.skipped}"
    "".join([*images.names, *(name for name, _ in images.skipped)]).encode()
    assert len(images.fingerprint) == 12


TEXT = b'text,family\na red square,colour\n"a, ""quoted"" thing",shape\nplain,\n'


def texts(attempts: int, seed: int) -> Tally:
    """Changed text files are pools or refused."""
    tally, rng = Tally("texts"), random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(attempts):
            path = Path(folder, f"t{rng.choice(('.txt', '.csv', '.tsv'))}")
            path.write_bytes(mutated(TEXT, rng) + rng.choice((b"", b"\0", b"\xff", b"x" * 5000, b'"' * 3)))
            tally.attempt(f"text {turn}", lambda p=path: len(open_texts(p)))
    return tally


def paths(attempts: int, seed: int) -> Tally:
    """Strange paths are refused by everything that opens one."""
    tally, rng = Tally("paths"), random.Random(seed)
    parts = [
        "",
        " ",
        "~",
        "~nouser",
        "..",
        "/",
        "a" * 300,
        "\0",
        "\n",
        "*",
        "[",
        "{0..9}",
        "{9..0}",
        "{0..99999999999}",
    ]
    parts += [
        "\udce9",
        "://",
        "C:",
        "con",
        "%s",
        "$HOME",
        "\u202e",
        "x.tar",
        "x.txt",
        "-",
        "/dev/zero",
        "/dev/null",
    ]
    openers: list[Callable[[str], Any]] = [
        open_images,
        lambda path: open_images([path, path]),
        open_texts,
        Index.open,
        lambda path: Index.merge([path], "merged"),
        dictionary.open_folder,
    ]
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            for turn in range(attempts):
                path = "".join(rng.choice(parts) for _ in range(rng.randrange(0, 4)))
                outside = path.replace("~nouser", "").lstrip().startswith(("/", "..", "~")) or "$" in path
                if not outside or path.startswith("/dev"):
                    tally.attempt(f"{path[:60]!r} {turn}", lambda p=path: rng.choice(openers)(p))
        finally:
            os.chdir(before)
    return tally


CAMPAIGNS = {
    "tars": tars,
    "pictures": pictures,
    "index bytes": index,
    "dictionary bytes": dictionaries,
    "dictionary heads": heads,
    "folders": trees,
    "texts": texts,
    "paths": paths,
}
