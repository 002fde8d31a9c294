"""For every line of docs/thesis.md a mutation that makes it false: what is replaced in which file, and by what.

The test that has to fail is the one that the line names. A mutation stays silent: nothing crashes, a user is told
something that is not so. `old` occurs once in its file and is as short as that allows, so that other changes of the
line leave it in place; `tests/mutations/test_mutations.py` checks it.
"""

from __future__ import annotations

import random
import re
from functools import cache
from typing import NamedTuple

from .running import ROOT


class Mutation(NamedTuple):
    """A change of one file that makes some lines of docs/thesis.md false, and what a user would then be told."""

    rows: tuple[str, ...]
    file: str
    old: str
    new: str
    lie: str


def _of(rows: str, file: str, old: str, new: str, lie: str) -> Mutation:
    """rows: "Table A.3, A.4", "Equation 2.1" or "Table 4.1, Figure 4.6"."""
    kind, named = "", []
    for part in rows.split(", "):
        kind, number = part.split(" ") if " " in part else (kind, part)
        named.append(f"{kind} {number}")
    return Mutation(tuple(named), f"clipviz/{file}.py", old, new, lie)


MUTATIONS = [
    # -- chapter 2, and what its report makes of the numbers
    _of("Equation 2.1", "analysis/collection/retrieval", "unit = normalize(embeddings, dim=-1)", "unit = embeddings", "images are not normalised"),
    _of("Equation 2.2", "models/clip", "full(self._forward(self.prepare(images)))", "full(torch.tanh(self._forward(self.prepare(images))))", "embeddings are squeezed"),
    _of("Equation 2.3", "models/towers/recording", "sorted(self.writes)]", "sorted(self.writes, reverse=True)]", "MLPs of the last layer stand for those of the first"),
    _of("Equation 2.4", "lens/decompose", "centred = (writes - mean", "centred = (writes.roll(1, 1) - mean", "each MLP has its neighbour's effect"),
    _of("Equation 2.5", "lens/decompose", "return _read(torch.stack(writes, 1), mean", "return _read(torch.stack(writes, 1).flip(2), mean", "heads are numbered from the last"),
    _of("Equation 2.6", "lens/heatmap", "paths[:, :, 0] * projected[:, :, :, 0]", "paths[:, :, 0].roll(1, -1) * projected[:, :, :, 0]", "each token has its neighbour's attention"),
    _of("Equation 2.7", "lens/textspan", "return gains.cumsum(-1) / total.to(chosen)[:, None]", "return (gains.cumsum(-1) / total.to(chosen)[:, None]).sqrt()", "explained shares are square roots"),
    _of("Algorithm 1", "lens/pursuit", "position = exact.masked_fill_(~known, -torch.inf).argmax(", "position = exact.masked_fill_(~known, torch.inf).argmin(", "the worst of the leading texts is chosen"),
    _of("Table 2.1", "reproduce/chapter2/chapter", '"MLPs": ablate.all_mlps(model.weights.n_mlp_terms)', '"MLPs": Ablation()', "no MLP is ablated"),
    _of("Table 2.2", "analysis/heads/labels", "0.05, 200", "1.0, 200", "heads have roles that any rotation has"),
    _of("Table 2.3", "lens/spurious", "class_directions, labels, groups", "class_directions, [*labels[1:], labels[0]], groups", "labels are rolled by one"),
    _of("Table 2.4", "lens/segment", "miou=(background + foreground) / 2", "miou=foreground", "the background does not count"),
    _of("Figure 2.2", "lens/ablate", "layers=frozenset(layers[:count])", "layers=frozenset(layers[len(layers) - count :])", "layers go from the last"),
    _of("Figure 2.3", "lens/projection", "return coefficients - coefficients.mean(0), 0.0", "return coefficients, 0.0", "the mean is counted twice"),
    _of("Figure 2.4", "lens/retrieve", "return best(direction_scores(", "return best(-direction_scores(", "the images on which the head writes least"),
    _of("Figure 2.5", "lens/retrieve", "scores = similarity(codes", "scores = -similarity(codes", "the least similar images are the neighbours"),
    _of("Figure 2.6", "lens/joint", "ranked = coefficients.argsort(descending=True)", "ranked = coefficients.abs().argsort(descending=True)", "a text is ranked by its size alone"),
    _of("Equation A.1", "lens/decompose", "- taken) / std[:, None, None, None] + constant", "- taken) / std.roll(1)[:, None, None, None] + constant", "another image's LayerNorm divides"),
    _of("Equation A.2", "models/clip", "thesis_shares=True", "thesis_shares=False", "the thesis's shares are not its own"),
    _of("Equation A.3", "models/towers/recording", "self.tokens[layer] = full(output)", "self.tokens[layer] = full(output).roll(1, 0)", "heads read another image's normed tokens"),
    _of("Equation A.4", "lens/decompose", '"ihd,hed->ihe", contexts, weights.value', '"ihd,hed->ihe", contexts.roll(1, 0), weights.value', "values are another image's"),
    _of("Table A.1", "lens/ablate", "codes[:, -2:] *= share", "codes[:, -2:] *= 1", "the class token takes all the biases"),
    _of("Table A.2", "models/captioners", 'None may contain "{class_name}". Begin', 'Each contains "{class_name}". Begin', "descriptions name their class"),
    _of("Table A.3, A.4, A.5, A.6", "lens/textspan", "head_span(basis, code_moments(codes).covariance)", "head_span(basis, code_moments(codes).covariance.flip(1))", "heads have each other's texts"),
    _of("Table A.7", "lens/zeroshot", "Accuracy(float(hits.float().mean())", "Accuracy(0.0 * float(hits.float().mean())", "the accuracy is 0"),
    _of("Table A.8, A.9, A.10", "lens/zeroshot", "sum(found) / len(found), len(found)", "1 - sum(found) / len(found), len(found)", "groups have their error rates"),
    _of("Figure A.1", "reproduce/pools", "return pools | open_pools(added)", "return pools | dict.fromkeys(open_pools(added), pools[GENERAL])", "added pools are the built-in one"),
    _of("Figure A.2", "reproduce/chapter2/pictures", "torch.stack([first - second, second - first])", "torch.stack([second - first, first - second])", "each map is of the other object"),
    _of("Figure A.3", "lens/joint", "ranked.flip(0)[:k]", "ranked[-k:]", "the least similar text is not the first"),
    _of("Figure A.4", "lens/baselines/table", '"partial LRP": partial_lrp', '"partial LRP": lrp', "one method's maps are another's"),
    _of("Figure A.5", "lens/retrieve", "found = scores.topk(min(k, scores.shape[1]), dim=1)", "found = scores.abs().topk(min(k, scores.shape[1]), dim=1)", "images written away from the text are among the best"),
    _of("Figure A.6", "lens/retrieve", "asked = vectors[index] @ linear", "asked = vectors[index.flip(0)] @ linear", "each query has another's neighbours"),
    _of("Table 2.2", "reproduce/chapter2/chapter", "for head, role in labelled.items()\n        ],", "for head, role in zip(labelled, reversed(labelled.values()))\n        ],", "heads have each other's roles in the report"),
    _of("Table 2.3, A.7, A.8, A.9, A.10", "reproduce/chapter2/spurious", "worst_of(shortcut.before), worst_of(shortcut.after)", "worst_of(shortcut.after), worst_of(shortcut.before)", "before is after in the report"),
    _of("Table 2.4", "reproduce/chapter2/segmenting", '"mIoU": s.miou, "mAP": s.map', '"mIoU": s.map, "mAP": s.miou', "measures have each other's names in the report"),
    _of("Figure 2.3, A.1", "reproduce/chapter2/chapter", "measured.of(embedding).items()", "measured.of(late.embedding).items()", "nothing is projected in the report"),
    _of("Figure 2.4, A.5", "reproduce/chapter2/pictures", "direction = model.encode_texts([text]).cpu()", "direction = -model.encode_texts([text]).cpu()", "the report shows the images written least"),
    _of("Figure 2.5", "reproduce/chapter2/pictures", '[query], [head], k=4, cosine=neighbours == "cosine")', '[query], [head], k=4, cosine=neighbours != "cosine")', "the report compares by the other measure"),
    _of("Figure 2.6, A.3", "reproduce/chapter2/pictures", '"negative_text": texts[int(found.negative[0])]', '"negative_text": texts[int(found.positive[0])]', "the least similar text is the most similar in the report"),
    # -- chapter 3, and what its report makes of the numbers
    _of("Equation 3.1", "lens/neurons", "self.read[..., chosen], directions", "self.read[..., chosen].flip(-1), directions", "neurons are numbered from the last"),
    _of("Equation 3.2", "models/second", "paths = paths.flatten(1, 2)", "paths = paths.flatten(1, 2).roll(1, -1)", "tokens have their neighbours' attention"),
    _of("Equation 3.3", "lens/neurons", "(attention @ passage.activations).transpose", "(attention @ passage.activations.flip(-1)).transpose", "neurons are numbered from the last"),
    _of("Equation 3.4", "lens/cues", "return (directions[neurons] @ target) @", "return (directions[neurons] @ target).abs() @", "neurons that write away from the class count for it"),
    _of("Table 3.1", "reproduce/chapter3/layers", "return float(first_component(centred)[1].mean())", "return float(first_component(found)[1].mean())", "the mean counts as variance"),
    _of("Table 3.2", "lens/sparse", "correlations = (residual @ columns).abs_()", "correlations = (residual @ columns)", "no text has a negative weight at first"),
    _of("Table 3.3", "analysis/cues/words", "best = class_neurons(found.directions, target, n_neurons)", "best = picked.to(target.device)", "random neurons stand for the second order"),
    _of("Table 3.4", "lens/cues", "topk(min(n_neurons, len(along))).indices", "topk(min(n_neurons, len(along)), largest=False).indices", "the least aligned neurons are taken"),
    _of("Figure 3.3", "lens/neuron_stats", "second.weighted_sum(chosen.to(embedding), stats.mean)", "second.weighted_sum(chosen.to(embedding))", "neurons are set to 0 instead of their mean"),
    _of("Figure 3.4", "lens/sparse", '"nm,nmd->nd", weights, dictionary', '"nm,nmd->nd", weights.abs(), dictionary', "codes lose their signs"),
    _of("Figure 3.5", "lens/neuron_stats", "top = lengths.topk(kept, dim=1)", "top = lengths.topk(kept, dim=1, largest=False)", "the weakest images are the top ones"),
    _of("Figure 3.6", "analysis/cues/pairs", "return encoded, encoded[1] - encoded[0]", "return encoded, encoded[0] - encoded[1]", "orange is the right class"),
    _of("Figure 3.7", "lens/cues", "return (summed - low) /", "return (high - summed) /", "maps are inverted"),
    _of("Equation B.1", "lens/neurons", "attention = passage.attention / passage.std[:, None, None]", "attention = passage.attention / passage.std.roll(1)[:, None, None]", "another image's LayerNorm divides"),
    _of("Equation B.2", "lens/neurons", "return shared + common / std + basis.constant", "return shared + common / std", "the shift is left out"),
    _of("Equation B.3", "lens/neurons", "basis.shared_bias - passage.mean", "basis.shared_bias + passage.mean", "the mean is added"),
    _of("Equation B.4", "lens/neurons", "values = target.value * target.ln_gamma", "values = target.value", "later LayerNorms have no scale"),
    _of("Equation B.5", "lens/neurons", "(target.value @ target.ln_beta + target.value_bias) / count", "(target.value @ target.ln_beta) / count", "value biases are left out"),
    _of("Table B.1", "reproduce/chapter3/neuron_texts", "key=lambda pair: -abs(pair[1])", "key=lambda pair: -pair[1]", "negative texts come last"),
    _of("Table B.2", "models/captioners", 'None may contain "{avoid}", a synonym', 'Each contains "{avoid}", a synonym', "sentences name the wrong class"),
    _of("Table B.3", "models/captioners", "n=self.n_texts, class_name=class_name", 'n=self.n_texts, class_name="a thing"', "no class is asked for"),
    _of("Figure B.1", "lens/cues", "activated = norms * (norms > thresholds)", "activated = norms * (norms <= thresholds)", "inactive neurons say what an image shows"),
    _of("Figure B.2", "reproduce/chapter3/layers", "large = second.norms() > known.thresholds", "large = second.norms() < known.thresholds", "large effects are the small ones"),
    _of("Figure B.3", "reproduce/chapter3/chapter", "render(n_images, 31, unseen_views=True)", "render(n_images, 31)", "the unseen views are seen ones"),
    _of("Figure B.4, B.5", "reproduce/chapter3/chapter", "enumerate(ablate.accumulated(range(study.model.n_layers)))", "enumerate(ablate.accumulated(range(study.model.n_layers)[::-1]))", "layers go from the last"),
    _of("Figure B.6", "analysis/neurons/layer", "stats.top_images[neuron, kept].tolist()", "stats.top_images[neuron, kept.flip(0)].tolist()", "pictures stand in the wrong order"),
    _of("Figure B.7", "analysis/neurons/layer", "to_numpy(stats.top_maps[neuron, kept].float())", "to_numpy(stats.top_maps[neuron, kept.flip(0)].float())", "pictures lie below each other's maps"),
    _of("Figure B.8", "analysis/cues/attacks", "@ (pair[1] - pair[0])", "@ pair[1]", "the class drawn does not count"),
    _of("Table 3.1", "reproduce/chapter3/chapter", '"second-order": study.accuracy(second[CONDITIONS[0]]', '"second-order": study.accuracy(second["baseline"]', "nothing is ablated in the report"),
    _of("Table 3.3", "reproduce/chapter3/attacks", "share = sum(margin > 0 for", "share = sum(margin < 0 for", "pictures that do not fool are counted"),
    _of("Table 3.4", "reproduce/chapter3/neuron_segmenting", "segment.score(found, own_masks, cues.SEGMENT_THRESHOLD)", "segment.score(found, own_masks)", "maps of neurons are cut at their mean in the report"),
    _of("Figure 3.3, B.2", "reproduce/chapter3/chapter", 'study.accuracy(found[condition], found["rows"])', 'study.accuracy(found["baseline"], found["rows"])', "nothing is replaced in the report"),
    _of("Figure 3.4", "reproduce/chapter3/chapter", "study.accuracy(left + coefficients @ rebuilt", "study.accuracy(left - coefficients @ rebuilt", "texts are taken away in the report"),
    _of("Table 3.2", "reproduce/chapter3/neuron_texts", "{'+' if pair[1] >= 0 else '−'}", "{'+' if pair[1] < 0 else '−'}", "signs of texts are turned in the report"),
    _of("Figure 3.5, B.6, B.7", "reproduce/chapter3/neuron_texts", "known.stats.top_images[neuron, :n].tolist()", "known.stats.top_images[neuron].flip(0)[:n].tolist()", "the report shows the weakest of the top images"),
    _of("Figure 3.6, B.8", "reproduce/chapter3/attacks", "np.argsort(ours.margins)[::-1][:N_EXAMPLES]", "np.argsort(ours.margins)[:N_EXAMPLES]", "the report shows the pictures that fool least"),
    _of("Figure B.1", "reproduce/chapter3/neuron_texts", "scores.topk(min(N_CONCEPTS, n_texts), dim=1)", "scores.abs().neg().topk(min(N_CONCEPTS, n_texts), dim=1)", "the report has the texts of least weight"),
    # -- chapter 4, and what its report makes of the numbers
    _of("Equation 4.1", "lens/upsample", "smoothed = (maps.flatten(2) @ torch.kron", "smoothed = 0.5 * (maps.flatten(2) @ torch.kron", "variances are halves"),
    _of("Equation 4.2", "lens/rosetta", ".mul_(scales[1]).clamp_(-1, 1)", ".mul_(scales[1]).clamp_(-1, 1).abs_()", "correlations have no sign"),
    _of("Equation 4.3", "lens/best_buddies", "(self.index_b[unit_b] == unit_a[:, None]).any(1)", "(self.index_b[unit_b] >= 0).any(1)", "one side's neighbour is enough"),
    _of("Equation 4.4", "lens/best_buddies", "table[pivot][:1] if strongest else table[pivot]", "table[pivot][:1]", "a unit has one partner in each model"),
    _of("Equation 4.5", "lens/invert", "losses = losses + beta * objectives", "losses = losses - beta * objectives", "maps are made unlike"),
    _of("Equation 4.6", "lens/invert", "-(own * wanted).mean((2, 3))", "-(own * wanted).abs().mean((2, 3))", "opposite maps are alike"),
    _of("Equation 4.7", "lens/invert", "return (images - targets).square().flatten(1).mean(1)", "return (images - targets).abs().flatten(1).mean(1)", "the reconstruction loss is another"),
    _of("Table 4.1", "reproduce/chapter4/inverting", "beta=BETA", "beta=0.0", "guides weigh nothing"),
    _of("Table 4.2", "models/zoo", '_RESNET = ("layer[1-4].*",)', '_RESNET = ("layer[1-3].*",)', "a network's last layers are not read"),
    _of("Figure 4.1", "session/shared_units", "seen.maps[row, place]", "seen.maps[rows[0], place]", "every tile shows one map"),
    _of("Figure 4.2", "session/shared_units", "[places, :n_examples]", "[places[::-1], :n_examples]", "models have each other's maps"),
    _of("Figure 4.4", "analysis/generation/inversion", "read(readers, images)", "read(readers, images.flip(3))", "the mirrored picture is inverted"),
    _of("Figure 4.5", "session/topics/guided", "return classes[int(", "return classes[0 * int(", "the class is always the first"),
    _of("Figure 4.6", "reproduce/chapter4/inverting", "({name: readers[name]}, thinned(guides))", "({}, None)", "what is said to be guided is not"),
    _of("Figure 4.7", "analysis/generation/editing", "edits.placed, right=right,", "edits.placed, right=-right,", "shifts go the other way"),
    _of("Figure 4.8", "reproduce/chapter4/concept_pages", '("remove", 1.0, less), ("amplify", LOUDER, more)', '("remove", 1.0, more), ("amplify", LOUDER, less)', "less is more"),
    _of("Figure C.1", "reproduce/chapter4/inverting", "guides=guides,\n            schedule=Schedule(steps, 0.1),\n        )\n        parts.append(found.images", "guides=guides,\n            schedule=Schedule(steps, 0.1),\n        )\n        parts.append(0 * found.images", "inversions are black"),
    _of("Figure C.2", "reproduce/chapter4/inverting", "guides, images, other.tolist(), sizes.steps", "guides, images, latents.label.tolist(), sizes.steps", "no other class is asked for"),
    _of("Figure C.3", "lens/edits", "return lowest + factor * (maps", "return lowest + (maps", "nothing is amplified"),
    _of("Figure C.4, C.5, C.6", "reproduce/chapter4/concept_pages", "key=lambda row: -hits[row]", "key=lambda row: hits[row]", "the concepts with fewest examples come first"),
    _of("Figure C.7, C.8, C.9, C.10, C.11", "reproduce/chapter4/concept_pages", "shown.strongest(place, ", "shown.strongest(0, ", "every figure has the first picture's maps"),
    _of("Figure C.12", "reproduce/chapter4/concept_pages", "(own - group.mean_a) / group.std_a", "(own - group.mean_a) * group.std_a", "heights are multiplied by deviations"),
    _of("Figure C.13", "reproduce/chapter4/inverting", "reconstruction=loss.towards(targets[some]),\n            schedule=Schedule(steps, 0.1),\n        )\n        parts.append(found.images", "reconstruction=loss.towards(targets[some]),\n            schedule=Schedule(steps, 0.1),\n        )\n        parts.append(0 * found.images", "inversions are black"),
    _of("Table 4.1, Figure 4.6", "reproduce/chapter4/inverting", 'enumerate(found["ways"])\n    ]\n    report.table', 'enumerate(reversed(found["ways"]))\n    ]\n    report.table', "ways have each other's scores in the report"),
    _of("Table 4.2", "reproduce/chapter4/chapter", "n_units = sum(found.shape[1] for found in maps.values())", "n_units = max(found.shape[1] for found in maps.values())", "units of one layer are told as all"),
    _of("Figure 4.4, 4.5", "reproduce/chapter4/inverting", '(f"foreign{p}", f"images{p}") for p', '(f"images{p}", f"foreign{p}") for p', "pictures are told to be found where they were asked for"),
    _of("Figure 4.8", "figures/chapter4", "(one.picture, one.picture, one.less, one.more)", "(one.picture, one.picture, one.more, one.less)", "less is more in the figure"),
]  # fmt: skip


@cache
def _lines() -> dict[str, tuple[str, ...]]:
    """Each line of docs/thesis.md that names a test: its item, and the tests."""
    text = (ROOT / "docs" / "thesis.md").read_text(encoding="utf-8")
    cells = [line.strip("|").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    tests = {row[0].strip(): tuple(re.findall(r"`([^`]+::[^`]+)`", row[5])) for row in cells if len(row) == 7}
    return {item: named for item, named in tests.items() if named}


def items() -> set[str]:
    """Every line of docs/thesis.md that can be false: all but the drawings."""
    return set(_lines())


def named_by(one: Mutation) -> tuple[str, ...]:
    """The tests that the lines of a mutation name, each once."""
    return tuple(dict.fromkeys(test for row in one.rows for test in _lines()[row]))


def tenth(day: int, seed: int = 23) -> list[Mutation]:
    """A tenth of the mutations, drawn at random; ten days in a row have all of them."""
    order = random.Random(seed).sample(MUTATIONS, len(MUTATIONS))
    return order[day % 10 :: 10]
