"""What others wrote and the page runs: onnxruntime-web, and tokenizers.js for families with a tokenizer.json."""

from __future__ import annotations

import lzma
from importlib import resources

RUNTIME = "ort.wasm.bundle.min.mjs"
TOKENIZERS = "tokenizers.min.mjs"


def script(name: str) -> bytes:
    """A module as it is published by its authors."""
    return (resources.files("clipviz.page") / "vendor" / name).read_bytes()


def runtime() -> bytes:
    """The runtime's WebAssembly, which is kept compressed."""
    return lzma.decompress(script("ort-wasm-simd-threaded.wasm.xz"))
