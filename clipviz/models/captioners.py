"""Writers and image makers for the adversarial loop: a local language model and a text-to-image pipeline.

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
        if getattr(self.tokenizer, "chat_template", None):
            prompt = self.tokenizer.apply_chat_template(
                [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
            )
        tokens = self.tokenizer(prompt, return_tensors="pt").to(self.model.device)
        with torch.inference_mode():
            written = self.model.generate(
                **tokens,
                max_new_tokens=self.max_new_tokens,
                do_sample=self.temperature > 0,
                **({"temperature": self.temperature} if self.temperature > 0 else {}),
            )
        answer = self.tokenizer.decode(written[0, tokens["input_ids"].shape[1] :], skip_special_tokens=True)
        return parse_list(answer)


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


def parse_list(answer: str) -> list[str]:
    """The sentences of a numbered or dashed list; other lines of an answer (greetings, headings) are left out."""
    found = (re.match(r"\s*(?:\d+[.):]|[-*•])\s+(.+?)\s*$", line) for line in answer.splitlines())
    return [match.group(1).strip("\"'“” ") for match in found if match]
