"""Scores against scikit-learn, and against what the field's definitions say of small cases."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix, f1_score, jaccard_score, precision_score, recall_score

from uperfuse.engine.flairhub import TASKS, ClassFacts
from uperfuse.trainer.scores import GroupedConfusion, scores_of

RNG = np.random.default_rng(8)
COVER = TASKS["AERIAL_LABEL-COSIA"]
EVALUATED = [value for value, entry in enumerate(COVER) if not entry.ignored]


def drawn(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Maps and truth that agree on most pixels; all classes occur, and pixels without truth."""
    truth = RNG.integers(0, len(COVER), shape)
    found = np.where(RNG.random(shape) < 0.7, truth, RNG.integers(0, len(COVER), shape))
    truth[RNG.random(shape) < 0.1] = 255
    return torch.from_numpy(found.astype(np.uint8)), torch.from_numpy(truth.astype(np.uint8))


def confusion_of(found: torch.Tensor, truth: torch.Tensor, *, step: int = 2) -> GroupedConfusion:
    confusion = GroupedConfusion([entry.ignored for entry in COVER])
    for start in range(0, len(found), step):
        confusion.update(found[start : start + step], truth[start : start + step])
    return confusion


def test_scores_are_those_of_scikit_learn():
    found, truth = drawn(5, 40, 30)
    confusion = confusion_of(found, truth)
    valid = np.isin(truth.numpy(), EVALUATED)
    true, mapped = truth.numpy()[valid], found.numpy()[valid]
    np.testing.assert_array_equal(confusion.matrix(), confusion_matrix(true, mapped, labels=range(len(COVER))))
    scores = scores_of(confusion.matrix(), COVER)
    asked = {"labels": EVALUATED, "average": None}
    assert [entry.name for entry in scores.classes] == [COVER[value].name for value in EVALUATED]
    for name, function in (
        ("iou", jaccard_score),
        ("f1", f1_score),
        ("precision", precision_score),
        ("recall", recall_score),
    ):
        got = [getattr(entry, name) for entry in scores.classes]
        np.testing.assert_allclose(got, function(true, mapped, **asked), rtol=1e-12)
    assert scores.accuracy == pytest.approx((true == mapped).mean())
    assert scores.pixels == valid.sum() == sum(entry.pixels for entry in scores.classes)
    assert scores.mean_iou == pytest.approx(jaccard_score(true, mapped, labels=EVALUATED, average="macro"))
    assert scores.mean_f1 == pytest.approx(f1_score(true, mapped, labels=EVALUATED, average="macro"))
    assert scores.mean_iou_of(["snow", "water"]) == pytest.approx(
        np.mean([scores.classes[6].iou, scores.classes[7].iou])
    )


def test_a_pixel_that_is_mapped_as_an_ignored_class_is_an_error():
    classes = [ClassFacts("a", "#000000"), ClassFacts("b", "#000001"), ClassFacts("c", "#000002", ignored=True)]
    confusion = GroupedConfusion([entry.ignored for entry in classes])
    confusion.update(torch.tensor([[0, 2, 1, 0]]), torch.tensor([[0, 0, 1, 2]]))
    scores = scores_of(confusion.matrix(), classes)
    assert [entry.iou for entry in scores.classes] == [0.5, 1.0]
    assert (scores.accuracy, scores.pixels) == (pytest.approx(2 / 3), 3)


def test_classes_that_do_not_occur_are_no_part_of_a_mean_and_those_wrongly_mapped_are():
    confusion = np.zeros((len(COVER), len(COVER)), np.int64)
    confusion[0, 0], confusion[0, 3] = 6, 2
    scores = scores_of(confusion, COVER)
    assert [(entry.name, entry.iou) for entry in scores.classes] == [("building", 0.75), ("impervious surface", 0.0)]
    assert math.isnan(scores.classes[1].recall)
    assert scores.mean_iou == 0.375
    assert math.isnan(scores.mean_iou_of(["snow"]))
    empty = scores_of(np.zeros_like(confusion), COVER)
    assert (empty.classes, empty.pixels) == ((), 0)
    assert math.isnan(empty.accuracy)


def test_groups_add_up_and_batches_do_not_matter():
    found, truth = drawn(6, 20, 10)
    names = [["D1"], ["D1", "summer"], ["D2"], ["D2"], ["D1"], ["elsewhere"]]
    confusion = GroupedConfusion([entry.ignored for entry in COVER], groups=["D1", "D2", "summer"])
    confusion.update(found[:1], truth[:1], names[:1])
    confusion.update(found[1:], truth[1:], names[1:])
    np.testing.assert_array_equal(confusion.matrix(), confusion_of(found, truth, step=6).matrix())
    for group, rows in (("D1", [0, 1, 4]), ("D2", [2, 3]), ("summer", [1])):
        np.testing.assert_array_equal(confusion.matrix(group), confusion_of(found[rows], truth[rows]).matrix())
    with pytest.raises(KeyError):
        confusion.matrix("elsewhere")
    confusion.reset()
    assert not confusion.counts.any()


def test_wrong_sizes_and_names_are_refused():
    with pytest.raises(ValueError, match=r"of \(3, 3\) for 19 classes"):
        scores_of(np.zeros((3, 3), np.int64), COVER)
    with pytest.raises(ValueError, match="have a name twice"):
        GroupedConfusion([False], groups=["D1", "D1"])
