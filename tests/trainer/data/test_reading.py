"""From files to samples: raw numbers, what is void, what is absent."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio

from uperfuse.engine.flairhub import MODALITIES, TASKS
from uperfuse.engine.simulation import MASK
from uperfuse.trainer.data import FLAIRHUB_LABELS, DataSet, DataSetError, Patch, choose, read_sample


def bands(root, patch, product):
    with rasterio.open(root / patch.files[product]) as dataset:
        return dataset.read()


def every_patch(data_set):
    return [patch for split in data_set.splits.values() for patch in split.patches]


def test_raw_digital_numbers_are_read_in_the_files_order(data_set):
    for patch in every_patch(data_set)[::3]:
        sample = read_sample(data_set.root, patch, dates=data_set.dates)
        assert sample.patch == patch.id
        assert set(sample.images) | set(sample.series) == set(MODALITIES) & set(patch.files)
        for name, pixels in sample.images.items():
            assert pixels.values.dtype == np.dtype(MODALITIES[name].dtype)
            assert np.array_equal(pixels.values[0], bands(data_set.root, patch, name))
            assert not pixels.void.any()
        for name, series in sample.series.items():
            raw = bands(data_set.root, patch, name).reshape(-1, len(MODALITIES[name].bands), 10, 10)
            seen = ~series.pixels.void
            assert len(series.dates) == len(raw)
            assert np.array_equal(series.pixels.values.transpose(0, 2, 3, 1)[seen], raw.transpose(0, 2, 3, 1)[seen])
            assert not series.pixels.values.transpose(0, 2, 3, 1)[~seen].any()


def test_ends_of_swaths_are_void(data_set):
    counts = dict.fromkeys(data_set.dates, 0)
    for patch in every_patch(data_set):
        sample = read_sample(data_set.root, patch, dates=data_set.dates, tasks={})
        for name, series in sample.series.items():
            raw = bands(data_set.root, patch, name).reshape(len(series.dates), -1, 10, 10)
            unseen = (raw == 0).all(1) if name == "SENTINEL2_TS" else np.isnan(raw).any(1)
            assert np.array_equal(series.pixels.void, unseen)
            counts[name] += int(unseen.sum())
    assert all(count > 0 for count in counts.values())


def test_masks_come_with_their_series_alone(data_set):
    patch = next(patch for patch in every_patch(data_set) if MASK in patch.files)
    sample = read_sample(data_set.root, patch, dates=data_set.dates)
    mask = sample.series["SENTINEL2_TS"].snow_cloud
    assert np.array_equal(mask.values.reshape(-1, 10, 10), bands(data_set.root, patch, MASK))
    assert all(s.snow_cloud is None for name, s in sample.series.items() if name != "SENTINEL2_TS")


def test_of_crops_the_first_of_three_levels_is_read(data_set):
    patch = next(patch for patch in every_patch(data_set) if len(patch.files) == 10)
    labels = read_sample(data_set.root, patch, dates=data_set.dates, modalities=()).labels
    levels = bands(data_set.root, patch, "ALL_LABEL-LPIS")
    assert np.array_equal(labels["ALL_LABEL-LPIS"], levels[0])
    assert not np.array_equal(levels[0], levels[2])
    assert np.array_equal(labels["AERIAL_LABEL-COSIA"], bands(data_set.root, patch, "AERIAL_LABEL-COSIA")[0])


def test_what_was_not_asked_for_is_not_read(breakable):
    data_set = DataSet.open(breakable.root)
    breakable.file("SPOT_RGBI").unlink()
    breakable.file("ALL_LABEL-LPIS").unlink()
    sample = read_sample(
        data_set.root,
        breakable.patch,
        dates=data_set.dates,
        modalities=["DEM_ELEV"],
        tasks={"AERIAL_LABEL-COSIA": FLAIRHUB_LABELS["AERIAL_LABEL-COSIA"]},
    )
    assert (list(sample.images), list(sample.series), list(sample.labels)) == (["DEM_ELEV"], [], ["AERIAL_LABEL-COSIA"])


def test_an_absent_label_of_one_task_leaves_the_other(data_set):
    lacking = [patch for patch in every_patch(data_set) if "ALL_LABEL-LPIS" not in patch.files]
    assert lacking
    assert list(read_sample(data_set.root, lacking[0], dates=data_set.dates).labels) == ["AERIAL_LABEL-COSIA"]


def test_nodata_of_labels_is_unknown_and_no_class(breakable, copy_of):
    def spoil(values):
        values[0, 100, :7] = 200
        return values

    copy_of("AERIAL_LABEL-COSIA", spoil, nodata=200)
    data_set = DataSet.open(breakable.root)
    label = read_sample(data_set.root, breakable.patch, dates=data_set.dates).labels["AERIAL_LABEL-COSIA"]
    assert (label[100, :7] == 255).all()
    assert (label == 255).sum() == 7
    assert label[label < 255].max() < len(TASKS["AERIAL_LABEL-COSIA"])


def test_nodata_of_an_aerial_image_hides_where_all_bands_hold_it(breakable, copy_of):
    def spoil(values):
        values[:, 5, :9] = 0
        values[0, 6, :9] = 0
        return values

    copy_of("AERIAL_RGBI", spoil, nodata=0)
    data_set = DataSet.open(breakable.root)
    void = read_sample(data_set.root, breakable.patch, dates=data_set.dates).images["AERIAL_RGBI"].void
    assert void[0, 5, :9].all()
    assert void.sum() == 9


def test_integers_of_a_wider_type_are_taken_where_they_fit(breakable, copy_of):
    data_set = DataSet.open(breakable.root)
    before = read_sample(data_set.root, breakable.patch, dates=data_set.dates).images["AERIAL_RGBI"].values
    copy_of("AERIAL_RGBI", lambda values: values.astype(np.int16))
    after = read_sample(data_set.root, breakable.patch, dates=data_set.dates).images["AERIAL_RGBI"].values
    assert after.dtype == np.uint8
    assert np.array_equal(before, after)


def test_a_network_that_needs_a_modality_refuses_a_patch_without_it(data_set, modalities):
    patch = next(patch for patch in every_patch(data_set) if "SPOT_RGBI" not in patch.files)
    sample = read_sample(data_set.root, patch, dates=data_set.dates)
    assert "SPOT_RGBI" not in choose(sample, modalities).images
    needed = modalities | {"SPOT_RGBI": modalities["SPOT_RGBI"].model_copy(update={"may_be_absent": False})}
    with pytest.raises(DataSetError, match=f"{patch.id} lacks SPOT_RGBI, and the network cannot do without it"):
        choose(sample, needed)


def test_a_modality_that_sees_nothing_is_absent_where_it_may_be(breakable, copy_of, modalities):
    copy_of("SPOT_RGBI", np.zeros_like, nodata=0)
    copy_of("SENTINEL1-ASC_TS", lambda values: np.full_like(values, np.nan))
    data_set = DataSet.open(breakable.root)
    sample = read_sample(data_set.root, breakable.patch, dates=data_set.dates)
    chosen = choose(sample, modalities)
    assert set(sample.images) - set(chosen.images) == {"SPOT_RGBI"}
    assert set(sample.series) - set(chosen.series) == {"SENTINEL1-ASC_TS"}


def test_a_filtered_series_without_masks_is_refused(breakable, modalities):
    data_set = DataSet.open(breakable.root)
    unmasked = Patch(breakable.patch.id, {name: "" for name in breakable.patch.folders if name != MASK})
    sample = read_sample(data_set.root, unmasked, dates=data_set.dates)
    with pytest.raises(DataSetError, match=f"has SENTINEL2_TS without {MASK}"):
        choose(sample, modalities)
