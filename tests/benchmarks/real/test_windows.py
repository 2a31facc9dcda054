"""Windows are cut, turned and drawn as they say."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.real.land_cover import Learning, describe
from benchmarks.real.strips import IMAGE, TASK
from benchmarks.real.windows import Place, Windows, cut_window, paste
from tests.benchmarks.real.examples import BUILDING, UNDEFINED, WATER
from uperfuse.engine.rasters.source import Pixels
from uperfuse.trainer.data import Augmentation, Draw, PatchId, Sample

SIDE_PX = 32


def strip(classes, *, values=None) -> Sample:
    """A strip of which each pixel tells where it lies: its row in the first band, its column in the second."""
    if values is None:
        rows, columns = np.indices(classes.shape)
        values = np.stack([rows, columns, rows + columns, 200 - rows]).astype(np.uint8)
    void = np.zeros((1, *classes.shape), np.bool_)
    return Sample(PatchId("x", "", "", "", ""), {IMAGE: Pixels(values[None], void)}, {}, {TASK: classes})


@pytest.fixture
def sample():
    return strip(np.random.default_rng(1).integers(0, 15, (60, 70)).astype(np.uint8))


def test_a_window_that_is_not_turned_is_a_slice(sample):
    window = cut_window(sample, Place((20 + 7.5, 30 + 7.5), 16))
    np.testing.assert_array_equal(window.images[IMAGE].values, sample.images[IMAGE].values[..., 20:36, 30:46])
    np.testing.assert_array_equal(window.labels[TASK], sample.labels[TASK][20:36, 30:46])


def test_a_quarter_turn_turns_image_and_labels_alike(sample):
    window = cut_window(sample, Place((27.5, 37.5), 16, angle=np.pi / 2))
    plain = cut_window(sample, Place((27.5, 37.5), 16))
    turned = [k for k in range(4) if np.array_equal(np.rot90(plain.labels[TASK], k), window.labels[TASK])]
    assert turned in ([1], [3])
    pixels = np.rot90(plain.images[IMAGE].values, turned[0], axes=(-2, -1))
    np.testing.assert_allclose(window.images[IMAGE].values.astype(int), pixels, atol=1)


def test_a_scale_of_two_takes_every_second_pixel(sample):
    window = cut_window(sample, Place((20, 30), 9, scale=2.0))
    np.testing.assert_array_equal(window.labels[TASK], sample.labels[TASK][12:29:2, 22:39:2])
    np.testing.assert_array_equal(window.images[IMAGE].values, sample.images[IMAGE].values[..., 12:29:2, 22:39:2])


def test_beyond_the_border_lies_the_mirror_image(sample):
    window = cut_window(sample, Place((0, 30), 5))
    np.testing.assert_array_equal(window.labels[TASK][:2], sample.labels[TASK][[2, 1], 28:33])


def windows(strips, **changed) -> Windows:
    settings = {"zoom": 0.2, "augmentation": Augmentation(brightness=0, haze=0), "squares": 0}
    settings |= {"seed": 4, "side_px": SIDE_PX}
    return Windows(strips, modalities=describe(Learning()), **(settings | changed))


def test_a_draw_depends_on_seed_and_number_alone(sample):
    once, again = windows([sample, sample]), windows([sample, sample])
    for number in (0, 9):
        np.testing.assert_array_equal(
            once[Draw(1, number)].images[IMAGE], again[Draw(1, number)].images[IMAGE], strict=True
        )
    assert not np.array_equal(once[Draw(1, 0)].labels[TASK], once[Draw(1, 1)].labels[TASK])
    other = windows([sample, sample], seed=5)
    assert not np.array_equal(once[Draw(1, 0)].labels[TASK], other[Draw(1, 0)].labels[TASK])


def test_rare_classes_are_drawn_more_often_than_they_occur():
    classes = np.full((60, 70), WATER, np.uint8)
    classes[:30, :35] = UNDEFINED
    rare = classes.copy()
    rare[-2:, -2:] = BUILDING
    drawn = windows([strip(classes), strip(classes), strip(classes), strip(rare)])
    held = [np.any(drawn[Draw(number % 4, number)].labels[TASK] == BUILDING) for number in range(120)]
    # a seventh of all windows are put about the class; without that about one in fifty would hold it
    assert 0.08 < np.mean(held) < 0.45


def test_an_index_gives_the_middle_of_its_strip(sample):
    found = windows([sample], side_px=16)[0]
    np.testing.assert_array_equal(found.labels[TASK], sample.labels[TASK][22:38, 27:43])


def test_what_is_pasted_brings_its_labels_along():
    rows, columns = np.indices((60, 70))
    # of both the first band tells the class, so that a label that lies wrongly shows
    sea, town = (
        strip(
            np.full((60, 70), each, np.uint8), values=np.stack([rows * 0 + each, rows, columns, rows]).astype(np.uint8)
        )
        for each in (WATER, BUILDING)
    )
    window, square = cut_window(sea, Place((30, 30), 32)), cut_window(town, Place((30, 30), 9))
    pasted = paste(square, window, np.random.default_rng(3))
    np.testing.assert_array_equal(pasted.images[IMAGE].values[0, 0], pasted.labels[TASK])
    assert np.count_nonzero(pasted.labels[TASK] == BUILDING) == 81
    assert np.all(window.labels[TASK] == WATER)


def test_squares_of_other_windows_are_pasted_into_each_draw():
    sea, town = strip(np.full((60, 70), WATER, np.uint8)), strip(np.full((60, 70), BUILDING, np.uint8))
    mixed = [windows([sea, town], squares=3)[Draw(0, number)].labels[TASK] for number in range(20)]
    both = [len(np.unique(labels)) == 2 for labels in mixed]
    plain = [len(np.unique(windows([sea, town])[Draw(0, number)].labels[TASK])) for number in range(20)]
    assert np.mean(both) > 0.7
    assert set(plain) == {1}
