"""Writers and image makers: a local language model for sentences and descriptions, a text-to-image pipeline.

`models.bundle.Studio.of(describe, draw)` makes of two of them what sessions and reports draw spurious cues with. The
adapters wrap objects that the user has loaded (transformers, diffusers); `load_writer`, `load_describer` and
`load_painter` open them by name.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from PIL import Image

PROMPT = (
    "Write {n} short descriptions of images, numbered and one per line, for a text-to-image model. Every description "
    'must contain "{class_name}". None may contain "{avoid}", a synonym, a plural or anything that looks like it. '
    "Use as many words as possible from this list and hardly any others; prefer objects, animals and places that "
    "can be seen, and leave out words that you do not know: {words}."
)


CLASS_PROMPT = (
    "List {n} short characteristics, numbered and one per line, that hold for almost every image of {class_name}. Each "
    'names one characteristic and would fit as a caption. None may contain "{class_name}". Begin them in ways such as: '
    '"Image with a texture of", "Picture taken in", "Photo that is taken outdoors", "Image in the style of", "Image '
    'with two objects", "Illustration with the colours", "Photo taken from above", "Photograph taken in winter".'
)


THESIS_PROMPT = (
    "You are a capable instruction-following AI agent. I want to generate an image by providing image descriptions as "
    "input to a text-to-image model. The image descriptions should be short. Each of them must include the word "
    '"{class_name}". They must not include the word "{avoid}", any synonym of it, or a plural version! The image '
    "descriptions should include as many words as possible from the next list and almost no other words: {words} Do "
    "not use names of people or places from the list unless they are famous and there is something visually "
    "distinctive about them. In each of the image descriptions mention as many objects and animals as possible from "
    "the list above. If you want to mention the place in which the image is taken or a name of a person, describe it "
    'with visually distinctive words. For example, if "Paris" is in the list, instead of saying "... in Paris", say '
    '"... with the Eiffel Tower in the background" or "... next to a sign saying \'Paris\'". Don\'t mention words that '
    'are too similar to "{avoid}", even if they are in the list above. For example, if the word was "tree" you should '
    'not mention "trees", "bush" or "eucalyptus". Only use words that you know what they mean. Generate a list of {n} '
    "image descriptions."
)
"""Table B.2, word for word."""


class Writer(Protocol):
    """Who writes: descriptions of pictures of class_name out of loose words, none of which names the class to avoid."""

    def __call__(self, words: Sequence[str], class_name: str, avoid: str) -> Sequence[str]: ...


class Painter(Protocol):
    """Who draws: a picture of a sentence; another seed gives another picture."""

    def __call__(self, sentence: str, seed: int) -> Image.Image: ...


def load_writer(name: str) -> PipelineWriter:
    """Return a language model of Hugging Face, by its name or folder, as a writer."""
    with _needing("transformers", "a language model"):
        transformers = importlib.import_module("transformers")
    return PipelineWriter(transformers.pipeline("text-generation", name, trust_remote_code=False))


def load_describer(name: str) -> ClassDescriber:
    """Return a language model of Hugging Face, by its name or folder, as a describer of classes."""
    pipeline = load_writer(name).pipeline
    return ClassDescriber(pipeline.model, pipeline.tokenizer)


def load_painter(name: str) -> PipelineDrawer:
    """Return a text-to-image model of Hugging Face, by its name or folder, as a painter."""
    with _needing("diffusers", "a text-to-image model"):
        diffusers = importlib.import_module("diffusers")
    return PipelineDrawer(
        diffusers.AutoPipelineForText2Image.from_pretrained(name, trust_remote_code=False), name=name
    )


@contextmanager
def _needing(name: str, what: str) -> Iterator[None]:
    """Says what to install where an import fails."""
    try:
        yield
    except ImportError as error:
        raise ImportError(
            f"{what} by its name is opened with {name}, which is not installed: pip install {name}, or pass a "
            "callable"
        ) from error


@dataclass(frozen=True)
class PipelineWriter:
    """describe(words, class_name, avoid) by a text-generation pipeline of transformers.

    prompt: PROMPT, THESIS_PROMPT (Table B.2) or your own, with the places n, class_name, avoid and words. Where the
    pipeline's tokenizer has a chat template, the prompt is a user's message.
    """

    pipeline: Any
    prompt: str = PROMPT
    n_sentences: int = 50
    max_new_tokens: int = 1500
    temperature: float = 0.7

    @property
    def name(self) -> str:
        """Who writes, and what is asked."""
        return _writer_name(getattr(self.pipeline, "model", self.pipeline), self.n_sentences, self.prompt)

    def __call__(self, words: Sequence[str], class_name: str, avoid: str) -> list[str]:
        asked = _asked(self.prompt, self.n_sentences, words, class_name, avoid)
        chats = getattr(getattr(self.pipeline, "tokenizer", None), "chat_template", None)
        answers = self.pipeline(
            [{"role": "user", "content": asked}] if chats else asked,
            max_new_tokens=self.max_new_tokens,
            return_full_text=False,
            **_sampling(self.temperature),
        )
        answer = answers[0]["generated_text"]
        return parse_list(answer if isinstance(answer, str) else answer[-1]["content"])


@dataclass(frozen=True)
class LanguageModelWriter:
    """describe(words, class_name, avoid) by a causal language model and its tokenizer (transformers).

    prompt: as in PipelineWriter. The chat template is used where there is one.
    """

    model: Any
    tokenizer: Any
    prompt: str = PROMPT
    n_sentences: int = 50
    max_new_tokens: int = 1500
    temperature: float = 0.7

    @property
    def name(self) -> str:
        """Who writes, and what is asked."""
        return _writer_name(self.model, self.n_sentences, self.prompt)

    def __call__(self, words: Sequence[str], class_name: str, avoid: str) -> list[str]:
        asked = _asked(self.prompt, self.n_sentences, words, class_name, avoid)
        return parse_list(answered(self.model, self.tokenizer, asked, self.max_new_tokens, self.temperature))


def _asked(prompt: str, n: int, words: Sequence[str], class_name: str, avoid: str) -> str:
    try:
        return prompt.format(n=n, class_name=class_name, avoid=avoid, words=", ".join(words))
    except (KeyError, IndexError) as error:
        raise ValueError(
            f"expected a prompt with the places n, class_name, avoid and words in braces, got {{{error.args[0]}}}; "
            "double a brace that is meant as one"
        ) from error


def _writer_name(model: Any, n: int, prompt: str) -> str:
    config = getattr(model, "config", None)
    return f"{getattr(config, '_name_or_path', '') or type(model).__name__}, {n}: {prompt}"


@dataclass(frozen=True)
class ClassDescriber:
    """describe_classes(class_name) by a causal language model and its tokenizer (transformers); Tables A.2, B.3."""

    model: Any
    tokenizer: Any
    n_texts: int = 40
    max_new_tokens: int = 1500
    temperature: float = 0.7

    @property
    def name(self) -> str:
        """Who writes, and what is asked: answers are kept by it."""
        return _writer_name(self.model, self.n_texts, CLASS_PROMPT)

    def __call__(self, class_name: str) -> list[str]:
        prompt = CLASS_PROMPT.format(n=self.n_texts, class_name=class_name)
        return parse_list(answered(self.model, self.tokenizer, prompt, self.max_new_tokens, self.temperature))


@dataclass(frozen=True)
class PipelineDrawer:
    """draw(sentence, seed) by a text-to-image pipeline (diffusers)."""

    pipeline: Any
    steps: int = 30
    name: str = ""

    def __call__(self, sentence: str, seed: int) -> Any:
        generator = torch.Generator().manual_seed(seed)
        return self.pipeline(sentence, num_inference_steps=self.steps, generator=generator).images[0]


def answered(model: Any, tokenizer: Any, prompt: str, max_new_tokens: int, temperature: float) -> str:
    """Return what a causal language model answers; in its chat's form where its tokenizer has a template."""
    if getattr(tokenizer, "chat_template", None):
        prompt = tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
        )
    tokens = tokenizer(prompt, return_tensors="pt").to(model.device)
    with torch.inference_mode():
        written = model.generate(**tokens, max_new_tokens=max_new_tokens, **_sampling(temperature))
    return str(tokenizer.decode(written[0, tokens["input_ids"].shape[1] :], skip_special_tokens=True))


def _sampling(temperature: float) -> dict[str, Any]:
    return {"do_sample": True, "temperature": temperature} if temperature > 0 else {"do_sample": False}


def parse_list(answer: str) -> list[str]:
    """Return the sentences of a numbered or dashed list; other lines of an answer (greetings, headings) are left
    out.
    """
    found = (re.match(r"\s*(?:\d+[.):]|[-*•])\s+(.+?)\s*$", line) for line in answer.splitlines())
    return [match.group(1).strip("\"'“” ") for match in found if match]
