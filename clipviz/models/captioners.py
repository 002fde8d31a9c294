"""Adapters for text and image models: a local language model writes sentences, a text-to-image pipeline draws them.

`models.bundle.Studio.of(describe, draw)` combines two of them for the spurious cues of sessions and reports. The
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
"""The prompt of Table B.2, word for word."""


class Writer(Protocol):
    """A callable that describes pictures of class_name with given words and does not name the class to avoid."""

    def __call__(self, words: Sequence[str], class_name: str, avoid: str) -> Sequence[str]: ...


class Painter(Protocol):
    """A callable that draws a picture of a sentence; another seed gives another picture."""

    def __call__(self, sentence: str, seed: int) -> Image.Image: ...


def load_writer(name: str) -> PipelineWriter:
    """Load a language model of Hugging Face, by its name or folder, as a writer."""
    with _needing("transformers", "a language model"):
        transformers = importlib.import_module("transformers")
    return PipelineWriter(transformers.pipeline("text-generation", name, trust_remote_code=False))


def load_describer(name: str) -> ClassDescriber:
    """Load a language model of Hugging Face, by its name or folder, as a describer of classes."""
    pipeline = load_writer(name).pipeline
    return ClassDescriber(pipeline.model, pipeline.tokenizer)


def load_painter(name: str) -> PipelineDrawer:
    """Load a text-to-image model of Hugging Face, by its name or folder, as a painter."""
    with _needing("diffusers", "a text-to-image model"):
        diffusers = importlib.import_module("diffusers")
    return PipelineDrawer(
        diffusers.AutoPipelineForText2Image.from_pretrained(name, trust_remote_code=False), name=name
    )


@contextmanager
def _needing(name: str, what: str) -> Iterator[None]:
    """Add advice on what to install when an import fails."""
    try:
        yield
    except ImportError as error:
        raise ImportError(
            f"opening {what} by name needs {name}, which is not installed: pip install {name}, or "
            "pass a callable"
        ) from error


@dataclass(frozen=True)
class PipelineWriter:
    """A writer that uses a text-generation pipeline of transformers: describe(words, class_name, avoid).

    prompt: PROMPT, THESIS_PROMPT (Table B.2) or your own, with the placeholders n, class_name, avoid and words.
    If the pipeline's tokenizer has a chat template, the prompt is sent as a user's message.
    """

    pipeline: Any
    prompt: str = PROMPT
    n_sentences: int = 50
    max_new_tokens: int = 1500
    temperature: float = 0.7

    @property
    def name(self) -> str:
        """Identifies the model and the prompt."""
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
    """A writer that uses a causal language model and its tokenizer (transformers): describe(words, class_name,
    avoid).

    prompt: as in PipelineWriter. The chat template is used if there is one.
    """

    model: Any
    tokenizer: Any
    prompt: str = PROMPT
    n_sentences: int = 50
    max_new_tokens: int = 1500
    temperature: float = 0.7

    @property
    def name(self) -> str:
        """Identifies the model and the prompt."""
        return _writer_name(self.model, self.n_sentences, self.prompt)

    def __call__(self, words: Sequence[str], class_name: str, avoid: str) -> list[str]:
        asked = _asked(self.prompt, self.n_sentences, words, class_name, avoid)
        return parse_list(answered(self.model, self.tokenizer, asked, self.max_new_tokens, self.temperature))


def _asked(prompt: str, n: int, words: Sequence[str], class_name: str, avoid: str) -> str:
    try:
        return prompt.format(n=n, class_name=class_name, avoid=avoid, words=", ".join(words))
    except (KeyError, IndexError) as error:
        raise ValueError(
            "expected a prompt with the placeholders n, class_name, avoid and words in braces, got "
            f"{{{error.args[0]}}}; double a brace to write it literally"
        ) from error


def _writer_name(model: Any, n: int, prompt: str) -> str:
    config = getattr(model, "config", None)
    return f"{getattr(config, '_name_or_path', '') or type(model).__name__}, {n}: {prompt}"


@dataclass(frozen=True)
class ClassDescriber:
    """Describes classes with a causal language model and its tokenizer (transformers); Tables A.2, B.3."""

    model: Any
    tokenizer: Any
    n_texts: int = 40
    max_new_tokens: int = 1500
    temperature: float = 0.7

    @property
    def name(self) -> str:
        """Identifies the model and the prompt; cached answers are found by it."""
        return _writer_name(self.model, self.n_texts, CLASS_PROMPT)

    def __call__(self, class_name: str) -> list[str]:
        prompt = CLASS_PROMPT.format(n=self.n_texts, class_name=class_name)
        return parse_list(answered(self.model, self.tokenizer, prompt, self.max_new_tokens, self.temperature))


@dataclass(frozen=True)
class PipelineDrawer:
    """A drawer that uses a text-to-image pipeline (diffusers): draw(sentence, seed)."""

    pipeline: Any
    steps: int = 30
    name: str = ""

    def __call__(self, sentence: str, seed: int) -> Any:
        generator = torch.Generator().manual_seed(seed)
        return self.pipeline(sentence, num_inference_steps=self.steps, generator=generator).images[0]


def answered(model: Any, tokenizer: Any, prompt: str, max_new_tokens: int, temperature: float) -> str:
    """Return the answer of a causal language model.

    Args:
        model: The model.
        tokenizer: Its tokenizer; the prompt takes chat form if this has a template.
        prompt: The question.
        max_new_tokens: Length of the answer, at most.
        temperature: 0 for the most likely words.

    Returns:
        The answer alone.
    """
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
    """Return the sentences of a numbered or dashed list, without an answer's other lines, such as greetings."""
    found = (re.match(r"\s*(?:\d+[.):]|[-*•])\s+(.+?)\s*$", line) for line in answer.splitlines())
    return [match.group(1).strip("\"'“” ") for match in found if match]
