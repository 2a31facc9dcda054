"""Images are cut in two, and what lies between is in neither part."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio

from benchmarks.real.strips import IMAGE, TASK, Cut, read_strips
from tests.benchmarks.real.examples import write_images, write_tiff
from uperfuse.engine.flairhub import TASKS
from uperfuse.trainer.data import DataSetError


def test_columns_between_the_cuts_are_in_neither_part(tmp_path):
    write_images(tmp_path)
    strips = read_strips(tmp_path)
    assert [strip.name for strip in strips] == ["D001_a", "D002_b"]
    with rasterio.open(tmp_path / "D002_b_AERIAL_RGBI.tif") as raster:
        values = raster.read()
    with rasterio.open(tmp_path / "D002_b_AERIAL_LABEL-COSIA.tif") as raster:
        classes = raster.read(1)
    for part, columns in ((strips[1].train, slice(0, 80)), (strips[1].test, slice(88, 128))):
        np.testing.assert_array_equal(part.images[IMAGE].values[0], values[..., columns])
        np.testing.assert_array_equal(part.labels[TASK], classes[:, columns])


def test_the_first_release_gives_the_same_strips(shared):
    folder = shared / "data/flair_aerial"
    later, first = read_strips(folder / "derived_flairhub"), read_strips(folder)
    assert len(later) == len(first) == 5
    for one, other in zip(later, first, strict=True):
        assert one.name == other.name
        for part in ("train", "test"):
            mine, theirs = getattr(one, part), getattr(other, part)
            np.testing.assert_array_equal(mine.images[IMAGE].values, theirs.images[IMAGE].values)
            np.testing.assert_array_equal(mine.labels[TASK], theirs.labels[TASK])
    assert later[0].train.labels[TASK].shape == (512, 320)
    assert later[0].test.labels[TASK].shape == (512, 160)
    # nine evaluated classes occur in both parts, as the known scores of a forest have it
    for part in ("train", "test"):
        labels = np.concatenate([getattr(strip, part).labels[TASK].ravel() for strip in later])
        evaluated = [number for number in np.unique(labels) if not TASKS[TASK][number].ignored]
        assert len(evaluated) == len(np.unique(labels)) == 9


def test_an_image_without_labels_is_refused(tmp_path):
    write_images(tmp_path)
    (tmp_path / "D001_a_AERIAL_LABEL-COSIA.tif").unlink()
    with pytest.raises(DataSetError, match=r"lacks D001_a_AERIAL_LABEL-COSIA\.tif"):
        read_strips(tmp_path)


def test_labels_of_another_size_are_refused(tmp_path):
    write_images(tmp_path)
    write_tiff(tmp_path / "D001_a_AERIAL_LABEL-COSIA.tif", np.zeros((1, 24, 64), np.uint8))
    with pytest.raises(DataSetError, match="24 x 64 px; give labels of the image's own size"):
        read_strips(tmp_path)


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(DataSetError, match="holds neither"):
        read_strips(tmp_path)


def test_unknown_codes_are_refused(tmp_path):
    write_tiff(tmp_path / "D001_IMG5.tif", np.zeros((5, 8, 16), np.uint8))
    write_tiff(tmp_path / "D001_MSK_flair1codes.tif", np.full((1, 8, 16), 20, np.uint8))
    with pytest.raises(DataSetError, match=r"codes \[20\], expected 1 to 19"):
        read_strips(tmp_path)


@pytest.mark.parametrize(("train", "test"), [(0, 0.5), (0.7, 0.6), (0.5, 1.0)])
def test_cuts_that_leave_nothing_are_refused(train, test):
    with pytest.raises(DataSetError, match="two rising shares"):
        Cut(train, test)
