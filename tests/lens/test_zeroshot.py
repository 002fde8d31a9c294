"""Zero-shot accuracy by hand, by group, and the causes named when it is at chance."""

import pytest
import torch

from clipviz.lens import intervals, zeroshot


def test_classifier_by_hand():
    encoded = torch.tensor([[[2.0, 0.0], [0.0, 1.0]], [[0.0, 3.0], [0.0, 1.0]]])
    half = 0.5**0.5
    torch.testing.assert_close(zeroshot.classifier(encoded), torch.tensor([[half, half], [0.0, 1.0]]))


def test_prototypes_are_the_unit_means_of_unit_examples():
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(40, 8, generator=generator, dtype=torch.float64)
    labels = [(0, 1, 2, -1)[i % 4] for i in range(40)]
    found = zeroshot.prototypes(embeddings, labels, 3)
    for k in range(3):
        mean = sum(e / e.norm() for e, label in zip(embeddings, labels, strict=True) if label == k) / 10
        torch.testing.assert_close(found[k], mean / mean.norm())
    with pytest.raises(ValueError, match=r"examples of all 4 classes, got none of \[3\]"):
        zeroshot.prototypes(embeddings, labels, 4)
    with pytest.raises(ValueError, match="a label for each of 40"):
        zeroshot.prototypes(embeddings, labels[:-1], 3)


def test_classes_with_different_numbers_of_prompts():
    encoded = torch.tensor([[2.0, 0.0], [0.0, 1.0], [0.0, 3.0]])
    half = 0.5**0.5
    torch.testing.assert_close(zeroshot.of_prompts(encoded, [2, 1]), torch.tensor([[half, half], [0.0, 1.0]]))


def test_changes_are_paired_over_the_same_images_by_hand():
    before, after = torch.tensor([0, 0, 1, 1, 0, 1]), torch.tensor([1, 0, 1, 0, 1, 0])
    labels = torch.tensor([0, 0, 0, 0, 1, -1])
    change, groups = zeroshot.changes_of(before, after, labels, ["a", "a", "a", "b", "b", "b"])
    assert change == intervals.paired(1, 2, 5)  # image 0 lost; 3 and 4 gained
    assert groups == {"a": intervals.paired(1, 0, 3), "b": intervals.paired(0, 2, 2)}
    same, _ = zeroshot.changes_of(before, before, labels, [""] * 6)
    assert same == intervals.paired(0, 0, 5)


def test_accuracy_groups_and_worst_by_hand():
    embeddings = torch.tensor([[5.0, 1.0], [0.1, 0.2], [1.0, 0.0], [0.0, 9.0], [1.0, 0.0]])
    found = zeroshot.accuracy(embeddings, torch.eye(2), [0, 1, 1, 1, -1], groups=["a", "a", "b", "b", "b"])
    assert found.top1 == pytest.approx(0.75)
    assert found.n_images == 4
    assert found.groups == {"a": (1.0, 2), "b": (0.5, 2)}
    assert (found.worst, found.worst_accuracy, found.chance) == ("b", 0.5, 0.5)


def test_predictions_do_not_depend_on_length_or_batching(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    embeddings, texts = torch.randn(50, 8, generator=generator), torch.randn(6, 8, generator=generator)
    whole = zeroshot.predict(embeddings, texts)
    monkeypatch.setattr(zeroshot, "IMAGES_AT_ONCE", 7)
    assert torch.equal(zeroshot.predict(embeddings * torch.rand(50, 1, generator=generator), texts), whole)


@pytest.fixture
def solvable():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(400) % 10
    return torch.eye(10)[labels] + 0.1 * torch.randn(400, 10, generator=generator), labels


def test_no_warnings_when_it_works(solvable):
    embeddings, labels = solvable
    assert zeroshot.accuracy(embeddings, torch.eye(10), labels).warnings == ()


def test_a_wrong_label_order_is_named(solvable):
    embeddings, labels = solvable
    found = zeroshot.accuracy(embeddings, torch.eye(10), (labels + 3) % 10)
    assert found.top1 < 0.05
    assert any("order of the class names" in cause for cause in found.warnings)


def test_identical_embeddings_point_to_preprocessing(solvable):
    _, labels = solvable
    embeddings = torch.ones(400, 10) + 1e-4 * torch.randn(400, 10, generator=torch.Generator().manual_seed(1))
    found = zeroshot.accuracy(embeddings, torch.eye(10), labels)
    assert any("preprocessing" in cause for cause in found.warnings)


def test_noise_points_to_the_activation_function(solvable):
    _, labels = solvable
    found = zeroshot.accuracy(
        torch.randn(400, 10, generator=torch.Generator().manual_seed(2)), torch.eye(10), labels
    )
    assert "QuickGELU" in found.warnings[-1]


def test_errors(unchecked_shapes):
    with pytest.raises(ValueError, match=r"\[class, template, d_embed\]"):
        zeroshot.classifier(torch.ones(2, 4))
    with pytest.raises(ValueError, match="same model"):
        zeroshot.predict(torch.ones(2, 3), torch.ones(2, 4))
    with pytest.raises(ValueError, match="labels below 2"):
        zeroshot.accuracy(torch.ones(2, 3), torch.ones(2, 3), [0, 2])
    with pytest.raises(ValueError, match="one label per image"):
        zeroshot.accuracy(torch.ones(2, 3), torch.ones(2, 3), [0])
    with pytest.raises(ValueError, match="one group per image"):
        zeroshot.accuracy(torch.ones(2, 3), torch.ones(2, 3), [0, 1], groups=["a"])
    with pytest.raises(ValueError, match="at least one labelled"):
        zeroshot.accuracy(torch.ones(2, 3), torch.ones(2, 3), [-1, -1])
