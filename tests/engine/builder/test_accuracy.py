"""What a map is said to lose, and how few layers are given back for it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uperfuse.engine import BackendError, Plan
from uperfuse.engine.builder.accuracy import FloatMaps
from uperfuse.engine.builder.pipeline import TileMap
from uperfuse.engine.builder.search import Outcome, fewest, give_back
from uperfuse.engine.builder.tiles import Sample

TASK = "AERIAL_LABEL-COSIA"
RNG = np.random.default_rng(1)


@pytest.fixture(scope="module")
def manifest(plans):
    with Plan.open(plans("aerial")[0]) as plan:
        return plan.manifest


def a_map(logits: np.ndarray) -> dict[str, TileMap]:
    """A tile whose labels lie on the pixels of its logits."""
    return {TASK: TileMap(logits.argmax(0).astype(np.uint8), logits.astype(np.float32))}


def confident(labels: np.ndarray, *, by: float = 8.0) -> np.ndarray:
    """Logits [19, Y, X] that are sure of `labels`."""
    return by * (np.arange(19)[:, None, None] == labels)


def iou_mean(got: np.ndarray, truth: np.ndarray) -> float:
    """Mean IoU in percent, as loops."""
    scores = []
    for each in range(19):
        mine, its = got == each, truth == each
        if (mine | its).any():
            scores.append((mine & its).sum() / (mine | its).sum())
    return 100 * float(np.mean(scores))


def test_the_same_map_loses_nothing(manifest):
    maps = [a_map(RNG.normal(size=(19, 8, 8))) for _ in range(2)]
    exact = FloatMaps(manifest, maps, samples=[Sample({})] * 2)
    assert exact.drop(maps) == 0
    (agreement,) = exact.agreement(maps)
    assert (agreement.relative_error, agreement.argmax_equal, agreement.miou) == (0, 1, 100)


def test_truth_is_compared_with_both_maps(manifest):
    truth = RNG.integers(0, 4, (2, 16, 16)).astype(np.uint8)
    truth[0, :3] = 255
    near, far = (np.where(RNG.random(truth.shape) < share, truth, 2) % 19 for share in (0.9, 0.7))
    maps = [[a_map(confident(labels)) for labels in each] for each in (near, far)]
    samples = [Sample({}, {}, {TASK: each}) for each in truth]
    exact = FloatMaps(manifest, maps[0], samples=samples)
    known = truth != 255
    expected = iou_mean(near[known], truth[known]) - iou_mean(far[known], truth[known])
    assert expected > 5
    assert exact.drop(maps[1]) == pytest.approx(expected)
    turned = FloatMaps(manifest, maps[1], samples=samples)
    assert turned.drop(maps[0]) == pytest.approx(-expected)
    one = FloatMaps(manifest, maps[0], samples=[samples[0], Sample({})])  # the truth of one tile decides
    known = truth[0] != 255
    assert one.drop(maps[1]) == pytest.approx(
        iou_mean(near[0][known], truth[0][known]) - iou_mean(far[0][known], truth[0][known])
    )


def test_without_truth_a_tie_costs_nothing_and_a_sure_pixel_its_share(manifest):
    labels = np.repeat(np.arange(4), 16).reshape(8, 8)
    sure = confident(labels, by=40.0)
    tied = sure.copy()
    tied[1, 0, 0] = tied[0, 0, 0] - 1e-4  # between class 0 and class 1
    exact = FloatMaps(manifest, [a_map(tied)], samples=[Sample({})])
    moved = labels.copy()
    moved[0, 0] = 1
    assert exact.drop([a_map(confident(moved))]) < 0.05  # 15.5 of 16 become 15 of 15.5
    assert exact.drop([a_map(tied)]) == 0
    moved[7, 7] = 0  # surely of class 3
    # of class 3 15 of 16 are left, and class 0 has one that is not its own; what classes gain is not counted
    lost = exact.drop([a_map(confident(moved))])
    assert lost == pytest.approx(100 * ((1 - 15 / 16) + (15.5 / 16 - 15 / 16.5)) / 4, rel=0.001)


def test_expected_losses_are_those_of_truths_drawn_from_the_probabilities(manifest):
    """What `drop` works out is what many truths, drawn pixel by pixel, cost on the average: from means of areas."""
    logits = np.where(np.arange(19)[:, None, None] < 3, RNG.normal(size=(19, 24, 24)) * 1.5, -30)
    other = logits + RNG.normal(size=logits.shape) * 0.6
    exact = FloatMaps(manifest, [a_map(logits)], samples=[Sample({})])
    probabilities = np.exp(logits) / np.exp(logits).sum(0)
    ours, theirs = other.argmax(0), logits.argmax(0)
    areas = np.zeros((2, 3, 2))
    for _ in range(400):
        truth = (RNG.random(ours.shape) > probabilities.cumsum(0)[:3]).sum(0)
        for place, labels in enumerate((theirs, ours)):
            for each in range(3):
                areas[place, each] += [
                    ((labels == each) & (truth == each)).sum(),
                    ((labels == each) | (truth == each)).sum(),
                ]
    iou = areas[..., 0] / areas[..., 1]
    assert exact.drop([a_map(other)]) == pytest.approx(100 * np.maximum(iou[0] - iou[1], 0).mean(), abs=0.3)
    assert exact.drop([a_map(other)]) > 2


def test_void_pixels_are_left_out(manifest):
    logits = RNG.normal(size=(19, 8, 8))
    labels = logits.argmax(0).astype(np.uint8)
    other = (labels + 1) % 19
    void = np.zeros((8, 8), bool)
    void[:4] = True
    maps = [{TASK: TileMap(np.where(void, 255, each).astype(np.uint8), logits)} for each in (labels, other)]
    mixed = {TASK: TileMap(np.where(void, 255, labels).astype(np.uint8), logits)}
    exact = FloatMaps(manifest, [maps[0]], samples=[Sample({})])
    assert exact.agreement([mixed])[0].argmax_equal == 1
    assert exact.agreement([maps[1]])[0].argmax_equal == 0
    assert exact.agreement([maps[1]])[0].miou == 0


@given(st.integers(0, 300), st.integers(0, 301))
def test_bisection_finds_the_smallest(most, needed):
    tried = []

    def holds(count: int) -> bool:
        tried.append(count)
        return count >= needed

    assert fewest(most, holds) == (needed if needed <= most else None)
    assert len(tried) <= math.ceil(math.log2(most + 1)) + 2
    assert len(tried) == len(set(tried))
    assert tried[0] == 0
    assert set(tried) <= set(range(most + 1))


def outcome(given_back, drop: float) -> Outcome:
    return Outcome(tuple(given_back), {}, drop, ())


def test_layers_go_back_until_the_limit_holds_and_no_further():
    layers = [("encoder:A", f"n{place}") for place in range(20)]
    said = []
    found = give_back(lambda back: outcome(back, 5.0 / (1 + len(back))), layers, limit=0.5, say=said.append)
    assert found.given_back == tuple(layers[:9])
    assert found.miou_drop == 0.5
    assert said[0] == "0 of 20 layers in floating point: 5.00 points of mean IoU lost"


@pytest.mark.parametrize(("layers", "words"), [(3, "; 2.00 was the least"), (0, "")])
def test_a_limit_that_does_not_hold_is_said(layers, words):
    keys = [("encoder:A", f"n{place}") for place in range(layers)]
    with pytest.raises(BackendError, match=rf"no layer can .* at most 0.5 points of mean IoU{words}; allow more with"):
        give_back(lambda back: outcome(back, 4.0 - len(back)), keys, limit=0.5, say=lambda _: None)
