"""Adapters for a language model and an image pipeline, with tiny stand-ins of their interfaces."""

from __future__ import annotations

from types import SimpleNamespace

import torch

from clipviz.models.captioners import ClassDescriber, LanguageModelWriter, PipelineDrawer, parse_list


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
    sentences = LanguageModelWriter(Model(), tokenizer, avoid="cat")(["moon", "ball"], "dog")
    assert sentences == ["A dog under the moon", "A dog with a ball", "a dog at night"]
    assert tokenizer.prompt.startswith("<user>")
    for part in ('"dog"', '"cat"', "moon, ball"):
        assert part in tokenizer.prompt


def test_the_describer_asks_for_a_class_and_is_known_by_what_it_asks():
    tokenizer = Tokenizer()
    describe = ClassDescriber(Model(), tokenizer, n_texts=7)
    assert describe("owl") == ["A dog under the moon", "A dog with a ball", "a dog at night"]
    assert tokenizer.prompt.count("owl") == 2
    assert "List 7 short characteristics" in tokenizer.prompt
    assert describe.name == ClassDescriber(Model(), Tokenizer(), n_texts=7).name
    assert describe.name != ClassDescriber(Model(), tokenizer).name


def test_the_drawer_uses_a_new_seed_every_time():
    seeds = []

    def pipeline(sentence, num_inference_steps, generator):
        seeds.append(generator.initial_seed())
        return SimpleNamespace(images=[sentence.upper()])

    draw = PipelineDrawer(pipeline, seed=5)
    assert [draw("a dog"), draw("a dog")] == ["A DOG", "A DOG"]
    assert seeds == [5, 6]


def test_lists_without_marks_are_not_sentences():
    assert parse_list("Sure!\n\n10. a dog \n* a dog too") == ["a dog", "a dog too"]
