"""Adapters for a language model and an image pipeline, with tiny stand-ins of their interfaces."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
import torch

from clipviz.models import captioners
from clipviz.models.captioners import (
    THESIS_PROMPT,
    ClassDescriber,
    LanguageModelWriter,
    PipelineDrawer,
    PipelineWriter,
    parse_list,
)


class Batch(dict):
    def to(self, device):
        return self


class Tokenizer:
    chat_template = "yes"

    def __init__(self):
        self.prompt = ""

    def apply_chat_template(self, messages, tokenize, add_generation_prompt):
        return f"<user>{messages[0]['content']}<assistant>"

    def __call__(self, text, return_tensors):
        self.prompt = text
        return Batch(input_ids=torch.tensor([[1, 2, 3]]))

    def decode(self, ids, skip_special_tokens):
        assert ids.tolist() == [7, 8]
        return 'Here is the list:\n1. A dog under the moon\n2) "A dog with a ball"\n- a dog at night\nDone'


class Model:
    device = torch.device("cpu")

    def generate(self, input_ids, max_new_tokens, do_sample, temperature):
        assert do_sample
        return torch.cat([input_ids, torch.tensor([[7, 8]])], 1)


def test_the_writer_prompts_with_words_and_reads_the_list():
    tokenizer = Tokenizer()
    sentences = LanguageModelWriter(Model(), tokenizer)(["moon", "ball"], "dog", "cat")
    assert sentences == ["A dog under the moon", "A dog with a ball", "a dog at night"]
    assert tokenizer.prompt.startswith("<user>")
    for part in (
        "Write 50 short descriptions",
        'Every description must contain "dog". None may contain "cat", a synonym',
        "Use as many words as possible from this list",
        "that you do not know: moon, ball.",
    ):
        assert part in tokenizer.prompt


def test_the_describer_asks_for_a_class_and_is_known_by_what_it_asks():
    tokenizer = Tokenizer()
    describe = ClassDescriber(Model(), tokenizer, n_texts=7)
    assert describe("owl") == ["A dog under the moon", "A dog with a ball", "a dog at night"]
    assert tokenizer.prompt.count("owl") == 2
    for part in (
        "List 7 short characteristics",
        "that hold for almost every image of owl. Each names one",
        'None may contain "owl". Begin them',
        '"Image with a texture of", "Picture taken in"',
    ):
        assert part in tokenizer.prompt
    assert describe.name == ClassDescriber(Model(), Tokenizer(), n_texts=7).name
    assert describe.name != ClassDescriber(Model(), tokenizer).name


@pytest.mark.parametrize("template", ["yes", None])
def test_a_text_generation_pipeline_writes(template):
    asked = []

    def pipeline(prompt, max_new_tokens, return_full_text, do_sample, temperature=None):
        asked.append(prompt if isinstance(prompt, str) else prompt[0]["content"])
        assert (max_new_tokens, return_full_text, do_sample, temperature) == (1500, False, False, None)
        answer = "1. A dog under the moon\n2. a cat"
        chat = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
        return [{"generated_text": answer if template else chat}]

    pipeline.tokenizer = SimpleNamespace(chat_template=template)
    write = PipelineWriter(pipeline, THESIS_PROMPT, temperature=0)
    assert write(["moon", "ball"], "dog", "cat") == ["A dog under the moon", "a cat"]
    assert 'must include the word "dog"' in asked[0]  # Table B.2, with its places filled
    assert asked[0].count('"cat"') == 2
    assert "almost no other words: moon, ball Do not use" in asked[0]
    assert asked[0].endswith("Generate a list of 50 image descriptions.")
    assert THESIS_PROMPT in write.name
    with pytest.raises(
        ValueError, match=r"placeholders n, class_name, avoid and words in braces, got \{what\}"
    ):
        PipelineWriter(pipeline, "{what}")(["moon"], "dog", "cat")


def test_the_drawer_uses_the_seed():
    seeds = []

    def pipeline(sentence, num_inference_steps, generator):
        seeds.append(generator.initial_seed())
        return SimpleNamespace(images=[sentence.upper()])

    draw = PipelineDrawer(pipeline)
    assert [draw("a dog", 5), draw("a dog", 6)] == ["A DOG", "A DOG"]
    assert seeds == [5, 6]


def test_models_by_name_say_what_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(
        ImportError, match="by name needs diffusers, which is not installed: pip install diffusers"
    ):
        captioners.load_painter("some/model")


def test_lists_without_marks_are_not_sentences():
    assert parse_list("Sure!\n\n10. a dog \n* a dog too") == ["a dog", "a dog too"]
