"""What the forest sees of a pixel, against loops; and that it learns."""

from __future__ import annotations

import numpy as np

from benchmarks.real.forests import WINDOWS_PX, PixelForest, pixel_features
from benchmarks.real.strips import TASK, read_strips
from tests.benchmarks.real.examples import UNDEFINED, write_images


def test_features_are_means_and_deviations_of_mirrored_squares():
    values = np.random.default_rng(2).integers(0, 255, (2, 40, 37)).astype(np.uint8)
    features = pixel_features(values)
    assert features.shape == (40, 37, 14)
    np.testing.assert_array_equal(features[..., :2], values.transpose(1, 2, 0))
    half = max(WINDOWS_PX) // 2
    wide = np.pad(values, ((0, 0), (half, half), (half, half)), mode="symmetric").astype(float)
    for row, column in ((0, 0), (20, 18), (39, 3)):
        expected = []
        for band in wide:
            for side in WINDOWS_PX:
                reach = side // 2
                square = band[
                    row + half - reach : row + half + reach + 1, column + half - reach : column + half + reach + 1
                ]
                expected += [square.mean(), square.std()]
        np.testing.assert_allclose(features[row, column, 2:], expected, rtol=1e-5, atol=1e-3)


def test_a_forest_learns_land_from_water_and_no_ignored_class(tmp_path):
    write_images(tmp_path)
    strips = read_strips(tmp_path)
    forest = PixelForest([strip.train for strip in strips], pixels=500, seed=1, processes=1)
    assert forest.pixels == 500
    for strip in strips:
        found = forest(strip.test)
        assert found.shape == strip.test.labels[TASK].shape
        assert (found == strip.test.labels[TASK]).mean() > 0.97
        assert not (found == UNDEFINED).any()
    everything = PixelForest([strips[0].train], pixels=None, seed=1, processes=1)
    assert everything.pixels == int((strips[0].train.labels[TASK] != UNDEFINED).sum())
