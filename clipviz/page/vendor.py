"""Third-party scripts of the page: onnxruntime-web, and tokenizers.js for families with a tokenizer.json."""

from __future__ import annotations

import lzma
from importlib import resources

RUNTIME = "ort.wasm.bundle.min.mjs"
TOKENIZERS = "tokenizers.min.mjs"


def script(name: str) -> bytes:
    """Return a module as published by its authors."""
    return (resources.files("clipviz.page") / "vendor" / name).read_bytes()


def runtime() -> bytes:
    """Return the runtime's WebAssembly, which is stored compressed."""
    return lzma.decompress(script("ort-wasm-simd-threaded.wasm.xz"))


def notices() -> bytes:
    """Return the licences of the third-party parts of a published folder."""
    about = (
        b"This folder holds onnxruntime-web 1.30.0 (MIT License, Copyright (c) Microsoft Corporation) and, for models "
        b"whose tokenizer\nis a tokenizer.json, tokenizers.js 0.2.0 (Apache License 2.0, the Hugging Face team). What "
        b"follows is the notice of\nwhat ONNX Runtime contains.\n\n"
    )
    return about + lzma.decompress(script("onnxruntime-notices.txt.xz"))
