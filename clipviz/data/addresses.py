"""Images at addresses such as hf://, s3:// or https://, read with the package fsspec if it is installed."""

from __future__ import annotations

import posixpath
from functools import lru_cache
from typing import Any

from PIL import Image

from clipviz.data.decode import BrokenImage, read_image
from clipviz.data.marks import BLOCK, N_BLOCKS, WHOLE, digest
from clipviz.data.sources import SUFFIXES, Found, Plain

_MOST_BYTES = 1 << 28  # of one image


def is_address(text: str) -> bool:
    """Return whether a text is an address rather than a path."""
    scheme, found, _ = text.partition("://")
    return bool(found) and scheme.replace("+", "").replace("-", "").isalnum()


def add_address(found: Found, text: str) -> None:
    """Add the image at an address, or all images in the folder there. Raises ValueError if it cannot be read."""
    system, path = _opened(text)
    try:
        if not system.isdir(path):
            found.add(source_of(text))
            return
        names = sorted(system.find(path))
    except Exception as error:  # every kind of file system raises its own errors
        raise ValueError(_failed(text, error)) from error
    root = path.rstrip("/")
    pictures = [name for name in names if posixpath.splitext(name)[1].lower() in SUFFIXES]
    inside = [posixpath.dirname(name[len(root) + 1 :]) for name in pictures]
    labelled = bool(pictures) and all(inside)
    for name, folder in zip(pictures, inside, strict=True):
        source = RemoteSource(text, name, name[len(root) + 1 :] or name)
        found.add(source, "", {"label": posixpath.basename(folder)} if labelled else None)
    for name in set(names) - set(pictures):
        found.skip(name, "this file type is not supported; convert it to JPEG, PNG or WebP")


def source_of(text: str) -> RemoteSource:
    """Return the image at an address. Raises ValueError for a file system that is unknown or not installed."""
    return RemoteSource(text, _opened(text)[1], text)


class RemoteSource(Plain):
    """An image at an address; it can be read from any thread."""

    def __init__(self, address: str, remote: str, name: str) -> None:
        self.address, self.remote, self.name = address, remote, name

    def load(self, near: int | None = None) -> Image.Image:
        try:
            content = _opened(self.address)[0].cat_file(self.remote, end=_MOST_BYTES)
        except FileNotFoundError as error:
            raise BrokenImage("the file does not exist") from error
        except Exception as error:
            raise BrokenImage(f"it cannot be read from its address: {_short(error)}") from error
        return read_image(bytes(content), near)

    def key(self) -> str:
        """Return the name and the content's identity: the file system's checksum or ETag, else a sample."""
        try:
            system = _opened(self.address)[0]
            known = system.info(self.remote)
            told = next(
                (known[k] for k in ("ETag", "etag", "blob_id", "sha256", "md5", "md5Hash") if known.get(k)),
                "",
            )
            size = int(known.get("size") or 0)
            if told:
                return f"{self.name}|{size}|{told}"
            spans = [(0, size)] if size <= WHOLE else _spans(size)
            content = b"".join(bytes(system.cat_file(self.remote, start=a, end=b)) for a, b in spans)
        except Exception:
            return f"{self.name}|missing|"
        return f"{self.name}|{size}|{digest(content)}"

    def essence(self, key: str, picture: Image.Image | None = None) -> str:
        return key[len(self.name) + 1 :]


def _spans(size: int) -> list[tuple[int, int]]:
    starts = [(size - BLOCK) * k // (N_BLOCKS - 1) for k in range(N_BLOCKS)]
    return [(start, start + BLOCK) for start in starts]


@lru_cache(maxsize=64)
def _opened(text: str) -> tuple[Any, str]:
    """Return the file system of an address and the path within it."""
    try:
        from fsspec.core import url_to_fs
    except ImportError as error:
        raise ValueError(
            f"expected a folder or a file on this machine, got the address {text!r}; pip install "
            "fsspec (and the package it requires for this kind of address), or download it first"
        ) from error
    try:
        system, path = url_to_fs(text)
    except Exception as error:
        raise ValueError(_failed(text, error)) from error
    return system, str(path)


def _failed(text: str, error: Exception) -> str:
    return (
        f"expected a folder or an image that can be read, got the address {text!r}: {_short(error)}; "
        "check the address, install the package it needs, or download it first"
    )


def _short(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
