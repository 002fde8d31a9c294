"""The page's tokenizers give the ids that Python's give, for texts as people type them."""

from __future__ import annotations

import random

import ftfy
import pytest

import clipviz
from clipviz.models.tokens import Tokens, tokens_of
from tests.page.node import answer

N_TEXTS = 2000
WORDS = [
    "a",
    "an",
    "the",
    "photo",
    "of",
    "Cat",
    "DOG",
    "naïve",
    "café",
    "Ångström",
    "Zürich",
    "smörgåsbord",
    "İstanbul",
    "ŒUVRE",
    "straße",
    "Ωmega",
    "Привет",
    "мир",
    "東京",
    "日本語",
    "한국어",
    "عربى",
    "नमस्ते",
    "ไทย",
    "it's",
    "don't",
    "WE'LL",
    "they've",
    "I'm",
    "3D",
    "1,234.5",
    "2026-12-01",
    "50%",
    "#hashtag",
    "@name",
    "http://x.org/?q=1&r=2",
    "c++",
    "hello_world",
    "semi;colon",
    "(brackets)",
    "[more]",
    "{curly}",
    "<tag>",
    "&amp;",
    "&lt;b&gt;",
    "&#233;",
    "…",
    "—",
    "–",
    "“quoted”",
    "‘single’",
    "ﬁne",
    "ﬂower",
    "ＦＵＬＬ",
    "ｗｉｄｔｈ",
    "école",
    "ñ",
    "🦩",
    "👩\u200d🚀",
    "👍🏽",
    "🇫🇷",
    "❤️",
    "☃",
    "😀😀😀",
    "½",
    "²",
    "x²",
    "H₂O",
    "№5",
    "™",
    "©",
    "°",
    "\xa0",
    "\u200b",
    "\t",
    "\n",
    "\x07",
    "antidisestablishmentarianism",
    "Donaudampfschifffahrtsgesellschaft",
    "zzzzzzzzzzzzzzz",
    "$9.99",
    "'tis",
    "'''",
    "--",
    "...",
    "?!",
    "<start_of_text>",
    "ａｂｃ\u3000ｄ",
    "ﷺ",
    "ĳ",
    "Ǆ",
]


def texts(n: int = N_TEXTS) -> list[str]:
    """Every word alone, then some in a row, with odd capitals and spaces."""
    draw = random.Random(1)
    found = list(WORDS)
    while len(found) < n:
        chosen = [draw.choice(WORDS) for _ in range(draw.randint(2, 12))]
        text = draw.choice([" ", "  ", "", "-"]).join(chosen)
        text = draw.choice([text, text.upper(), text.title(), text.swapcase()])
        if ftfy.fix_text(text) == ftfy.fix_text(
            text, fix_encoding=False
        ):  # what looks wrongly decoded is repaired in Python alone
            found.append(text)
    return found


def ids(tokens: Tokens, given: list[str], folder) -> list[list[int]]:
    files = {}
    for name, content in tokens.files.items():
        (folder / name).write_bytes(content)
        files[name] = str(folder / name)
    return answer("ids.mjs", kind=tokens.kind, facts=tokens.facts, files=files, texts=given)


def different(found, wanted, given) -> list[tuple]:
    pairs = zip(given, found, wanted.tolist(), strict=True)
    return [(text, one, other) for text, one, other in pairs if one != other]


def untied(differences: list[tuple]) -> list[tuple]:
    """Those that are not the same pieces in another order, since a tokenizer trained here scores some orders alike."""
    return [one for one in differences if sorted(one[1]) != sorted(one[2])]


def test_byte_pairs_are_those_of_open_clip(tmp_path):
    from open_clip import SimpleTokenizer

    model = clipviz.load("demo", device="cpu")
    tokens, given = tokens_of(model), texts()
    assert tokens.kind == "byte pairs"
    for context in (model.network.context_length, 77):
        tokens.facts["context"] = context
        found = ids(tokens, given, tmp_path)
        assert different(found, SimpleTokenizer(context_length=context)(given), given) == []


def test_merges_are_kept_in_two_bytes_each():
    content = tokens_of(clipviz.load("demo", device="cpu")).files["merges"]
    assert len(content) == 4 * (49408 - 512 - 2)


def trained(kind: str):
    """A tokenizer of one of the kinds that other families have, trained on these texts."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    special = ["<pad>", "</s>", "<unk>", "<s>"]
    ends = [("<s>", 3), ("</s>", 1)]
    if kind == "sentence pieces":  # SigLIP
        made = Tokenizer(models.Unigram())
        made.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
        made.pre_tokenizer = pre_tokenizers.Metaspace()
        made.decoder = decoders.Metaspace()
        trainer = trainers.UnigramTrainer(vocab_size=700, special_tokens=special, unk_token="<unk>")
        made.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=ends)
    elif kind == "bytes":  # Hugging Face's CLIP
        made = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token="<unk>"))
        made.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=900, special_tokens=special, initial_alphabet=alphabet, end_of_word_suffix="</w>"
        )
        made.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=ends)
    elif kind == "word pieces":  # CLIPA's, which is BERT's; a vocabulary that does not know every letter
        special = ["<pad>", "</s>", "<unk>", "[CLS]", "[SEP]"]
        made = Tokenizer(models.WordPiece(unk_token="<unk>"))
        made.normalizer = normalizers.BertNormalizer(lowercase=True)
        made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(vocab_size=900, special_tokens=special)
        ends = [("[CLS]", 3), ("[SEP]", 4)]
        made.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
        made.train_from_iterator([text for text in texts(900) if text.isascii()], trainer)
        named = {"cls_token": "[CLS]", "sep_token": "[SEP]"}
        return PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>", unk_token="<unk>", **named)
    else:  # words
        made = Tokenizer(models.WordLevel(unk_token="<unk>"))
        made.pre_tokenizer = pre_tokenizers.Whitespace()
        trainer = trainers.WordLevelTrainer(special_tokens=special)
        made.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=ends)
    made.train_from_iterator(texts(400), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", unk_token="<unk>", eos_token="</s>", bos_token="<s>"
    )


@pytest.mark.parametrize("kind", ["sentence pieces", "bytes", "word pieces"])
def test_a_tokenizer_json_gives_the_ids_of_transformers(kind, tmp_path):
    pytest.importorskip("transformers")
    from clipviz.models import tokens as module
    from clipviz.models.hf import HfTokenizer

    given = HfTokenizer(trained(kind), 20)
    tokens = module._from_json(given.tokenizer, given.context_length, "")
    wanted = given(asked := [text.replace("<start_of_text>", "start") for text in texts()])
    found = different(ids(tokens, asked, tmp_path), wanted, asked)
    assert (untied(found) if kind == "sentence pieces" else found) == []
    assert len({tuple(row) for row in wanted.tolist()}) > 0.8 * N_TEXTS


def test_open_clips_other_tokenizers_are_known(tmp_path):
    """HFTokenizer cleans texts before its own tokenizer sees them; what is none of these is declined by name."""
    from types import SimpleNamespace

    from open_clip.tokenizer import HFTokenizer, get_clean_fn

    pytest.importorskip("transformers")
    asked = [text.replace("<start_of_text>", "start") for text in texts()]
    for clean, kind in (
        ("canonicalize", "sentence pieces"),  # SigLIP
        ("whitespace", "word pieces"),  # CLIPA, which erases the separator
        ("lower", "sentence pieces"),
    ):
        given = HFTokenizer.__new__(HFTokenizer)
        given.tokenizer, given.context_length, given.clean_fn = trained(kind), 64, get_clean_fn(clean)
        given.tokenizer_mode, given.strip_sep_token = "", kind == "word pieces"
        tokens = tokens_of(SimpleNamespace(tokenizer=given))
        assert tokens.facts["clean"] == clean
        wanted = given(asked)
        if given.strip_sep_token:
            assert tokens.facts["erased"] not in wanted
        assert untied(different(ids(tokens, asked, tmp_path), wanted, asked)) == []
    declined = tokens_of(SimpleNamespace(tokenizer=lambda given: given))
    assert (declined.kind, declined.facts["why"]) == (
        "none",
        "the tokenizer function is only available in Python",
    )


def test_a_tokenizer_that_the_page_would_read_otherwise_is_declined():
    from clipviz.models import tokens as module

    pytest.importorskip("transformers")
    tokens = module._from_json(trained("words"), 20, "")
    assert tokens.kind == "none"
    assert (
        "of the kind WordLevel, not byte pairs, sentence pieces or BERT's word pieces" in tokens.facts["why"]
    )
