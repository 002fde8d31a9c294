"""Writers and image makers: a local language model for sentences and descriptions, a text-to-image pipeline.

Both wrap objects that the user has loaded (transformers, diffusers); nothing is downloaded here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

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


@dataclass(frozen=True)
class LanguageModelWriter:
    """describe(words, class_name) by a causal language model and its tokenizer (transformers), thesis Table B.2.

    avoid: the wrong class, which the sentences must not name. The chat template is used where there is one.
    """

    model: Any
    tokenizer: Any
    avoid: str
    n_sentences: int = 50
    max_new_tokens: int = 1500
    temperature: float = 0.7

    def __call__(self, words: Sequence[str], class_name: str) -> list[str]:
        prompt = PROMPT.format(
            n=self.n_sentences, class_name=class_name, avoid=self.avoid, words=", ".join(words)
        )
        return parse_list(answered(self.model, self.tokenizer, prompt, self.max_new_tokens, self.temperature))


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
        config = getattr(self.model, "config", None)
        return f"{getattr(config, '_name_or_path', '') or type(self.model).__name__}, {self.n_texts}: {CLASS_PROMPT}"

    def __call__(self, class_name: str) -> list[str]:
        prompt = CLASS_PROMPT.format(n=self.n_texts, class_name=class_name)
        return parse_list(answered(self.model, self.tokenizer, prompt, self.max_new_tokens, self.temperature))


@dataclass
class PipelineDrawer:
    """draw(sentence) by a text-to-image pipeline (diffusers); every call uses the next seed."""

    pipeline: Any
    seed: int = 0
    steps: int = 30

    def __call__(self, sentence: str) -> Any:
        generator = torch.Generator().manual_seed(self.seed)
        self.seed += 1
        made = self.pipeline(sentence, num_inference_steps=self.steps, generator=generator)
        return made.images[0]


def answered(model: Any, tokenizer: Any, prompt: str, max_new_tokens: int, temperature: float) -> str:
    """What a causal language model answers; in its chat's form where its tokenizer has a template."""
    if getattr(tokenizer, "chat_template", None):
        prompt = tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
        )
    tokens = tokenizer(prompt, return_tensors="pt").to(model.device)
    how = {"do_sample": True, "temperature": temperature} if temperature > 0 else {"do_sample": False}
    with torch.inference_mode():
        written = model.generate(**tokens, max_new_tokens=max_new_tokens, **how)
    return str(tokenizer.decode(written[0, tokens["input_ids"].shape[1] :], skip_special_tokens=True))


def parse_list(answer: str) -> list[str]:
    """The sentences of a numbered or dashed list; other lines of an answer (greetings, headings) are left out."""
    found = (re.match(r"\s*(?:\d+[.):]|[-*•])\s+(.+?)\s*$", line) for line in answer.splitlines())
    return [match.group(1).strip("\"'“” ") for match in found if match]
