"""Pools of texts for TextSpan and sparse codes (Figures 2.3, A.1, 3.4): built in, added, or written by a model.

Pools are added on the command line, with --pool NAME=FILE or --pool words:10000. Descriptions of classes are
written by a language model, as in the thesis (Tables A.2, B.3), and stored in steps under a hash of the writer's
name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from clipviz.data.texts import WORDS, Texts, common_words, open_texts
from clipviz.models.captioners import load_describer
from clipviz.models.clip import ClipModel
from clipviz.reproduce.evaluation import Evaluation, in_demo_world
from clipviz.reproduce.report import Report, Steps

GENERAL, COMMON, CLASSES = "descriptions", "common words", "class descriptions"
RANDOM = "random vectors"
MOST_COMMON = (10_000, 30_000)
AT_ONCE = 50  # classes whose descriptions are stored together

_ENCODED: WeakKeyDictionary[ClipModel, dict[tuple[str, ...], Tensor]] = WeakKeyDictionary()

Added = Mapping[str, str] | Mapping[str, Texts] | Sequence[str] | None
DescribeClass = Callable[[str], Sequence[str]]


def open_pools(added: Added) -> dict[str, Texts]:
    """Return the opened added pools; unreadable ones are reported before anything is measured."""
    return {name: open_texts(source) for name, source in named_pools(added).items()}


def named_pools(added: Added) -> dict[str, Any]:
    """Return name -> file or words:N, from a mapping or from command line words: NAME=FILE, or words:N alone.

    Raises ValueError for a pool without a name, or a name that is already used.
    """
    if added is None:
        return {}
    pairs = list(added.items()) if isinstance(added, Mapping) else [_pair(one) for one in added]
    taken = {GENERAL, COMMON, CLASSES, RANDOM}
    for name, _ in pairs:
        if name in taken:
            raise ValueError(
                f"expected a different name for every pool, got {name!r} again; choose another name"
            )
        taken.add(name)
    return dict(pairs)


def _pair(word: str) -> tuple[str, str]:
    name, equals, source = word.partition("=")
    if not equals and WORDS.fullmatch(word):
        return f"{int(word.split(':')[1]):,} common words", word
    if not name.strip() or not source.strip():
        raise ValueError(
            f"expected NAME=FILE or words:N as a pool, got {word!r}; for example 'birds=birds.txt'"
        )
    return name.strip(), source.strip()


def text_pools(
    model: ClipModel,
    evaluation: Evaluation,
    added: Added = None,
    describe_classes: DescribeClass | str | None = None,
    steps: Steps | None = None,
    n_words: Sequence[int] = (),
) -> dict[str, Texts]:
    """Return the evaluation's pools, the added ones, and class descriptions if a callable or a named model writes
    them.

    n_words: for models not limited to one world, also this many of the most common words, if their package is
    installed; 0 means as many as there are descriptions, in place of the words of the descriptions.
    """
    pools = dict(evaluation.pools)
    if not in_demo_world(model) and words_at_hand():
        for n in n_words:
            pools[COMMON if n == 0 else f"{n:,} common words"] = common_words(n or len(pools[GENERAL]))
    if describe_classes is not None:
        writer = load_describer(describe_classes) if isinstance(describe_classes, str) else describe_classes
        pools[CLASSES] = class_descriptions(list(evaluation.class_prompts), writer, steps)
    return pools | open_pools(added)


def words_at_hand() -> bool:
    """Return whether the most common words are available."""
    try:
        common_words(1)
    except ImportError:
        return False
    return True


def say_what_is_missing(report: Report, model: ClipModel, described: bool, figure: str) -> None:
    """State which of the thesis's pools are missing, and what they need."""
    if in_demo_world(model):
        return
    if not words_at_hand():
        report.needs(
            "pip install 'clipviz[words]'", "the most common English words", f"{figure}, common words"
        )
    if not described:
        report.needs(
            "--describe-classes",
            "the name of a language model that describes each class (in Python, describe_classes= takes a callable), "
            "or the texts as --pool NAME=FILE",
            f"{figure}, class descriptions",
        )


def class_descriptions(classes: Sequence[str], describe: DescribeClass, steps: Steps | None = None) -> Texts:
    """Return everything that a writer says about the classes, without duplicates; stored in `steps` under a hash of
    the writer's name.

    describe(class name) -> texts; its name is the attribute `name`, or that of its type. A text that names its
    class is excluded, as the thesis's prompt requests.
    """
    writer = str(getattr(describe, "name", type(describe).__name__))
    # independent of the images: chapters share them
    kept = None if steps is None else Steps(steps.folder, {})
    texts: list[str] = []
    for start in range(0, len(classes), AT_ONCE):
        some = list(classes[start : start + AT_ONCE])
        key = hashlib.blake2b("\n".join([writer, *some]).encode(), digest_size=8).hexdigest()

        def write(some: list[str] = some) -> dict[str, list[str]]:
            said = {name: [" ".join(text.split()) for text in describe(name)] for name in some}
            return {
                "texts": [t for name, found in said.items() for t in found if name.lower() not in t.lower()]
            }

        texts += (write() if kept is None else kept.get(f"class-texts-{key}", write))["texts"]
    pool = Texts([text for text in texts if text], None, CLASSES)
    if len(pool) < 2:
        raise ValueError(
            f"expected descriptions of {len(classes)} classes, got {len(pool)} from {writer}; check "
            "its answers"
        )
    return pool


def encoded_pool(model: ClipModel, pool: Sequence[str]) -> Tensor:
    """Return a pool's unit vectors, encoded once for all sections: thousands of texts take minutes."""
    known, texts = _ENCODED.setdefault(model, {}), tuple(pool)
    if texts not in known:
        known[texts] = model.encode_texts(list(texts))
    return known[texts]


def encoded_pools(model: ClipModel, pools: Mapping[str, Texts]) -> dict[str, Tensor]:
    """Return the encoded pools, and as many random Gaussian vectors as there are descriptions (thesis App. A)."""
    encoded = {name: encoded_pool(model, pool) for name, pool in pools.items()}
    random = torch.randn(encoded[GENERAL].shape, generator=torch.Generator().manual_seed(0))
    return {**encoded, RANDOM: random.to(model.device)}
