"""Training sees what inference sees, bit by bit: the engine reads the same files as a scene."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from uperfuse.engine.flairhub import MODALITIES
from uperfuse.engine.plan import Plan
from uperfuse.engine.prepare import prepare_image, prepare_series
from uperfuse.engine.rasters.reader import SceneReader
from uperfuse.engine.rasters.scene import Scene, Source
from uperfuse.engine.rasters.tiling import Tiling
from uperfuse.engine.simulation import MASK
from uperfuse.engine.tiles import check_tiles
from uperfuse.trainer.data import DataSetError, Sample, choose, prepare_sample, read_sample

PLAN = Path(__file__).resolve().parents[3] / "models" / "uperfuse-small.plan"


@pytest.fixture(scope="module")
def manifest():
    with Plan.open(PLAN) as plan:
        return plan.manifest


def engine_tile(manifest, data_set, patch):
    """The patch's files as the engine reads them for a map, and its records of the tile."""
    inputs = {}
    for modality in manifest.modalities:
        if modality.name in patch.files:
            series = modality.kind == "series"
            masked = series and modality.filter is not None
            inputs[modality.name] = Source(
                path=data_set.root / patch.files[modality.name],
                dates=tuple(data_set.dates[modality.name].of(patch.id).tolist()) if series else None,
                mask=data_set.root / patch.files[MASK] if masked else None,
            )
    with SceneReader(manifest, Scene(inputs=inputs)) as reader:
        (place,) = Tiling(reader.grid.shape_yx, tile_px=512, halo_px=0)
        read = reader.read(place)
    tiles = {name: values[None] if values.ndim > 1 else [values] for name, values in read.tiles.items()}
    tiles |= {name: [values[0]] for name, values in tiles.items() if name.endswith("_TS")}
    voids = {name: [void] if name.endswith("_TS") else void[None] for name, void in read.voids.items()}
    return check_tiles(tiles, manifest=manifest, voids=voids)[0]


def test_preparation_is_the_engines_own_bit_by_bit(manifest, data_set):
    modalities = {modality.name: modality for modality in manifest.modalities}
    seen, voids, empty = set(), 0, 0
    for patch in [patch for split in data_set.splits.values() for patch in split.patches]:
        sample = choose(read_sample(data_set.root, patch, dates=data_set.dates), modalities)
        prepared = prepare_sample(sample, modalities)
        tile = engine_tile(manifest, data_set, patch)
        assert set(prepared.images) | set(prepared.series) == set(tile)
        for name, record in tile.items():
            seen.add(name)
            if name in prepared.images:
                assert np.array_equal(prepared.images[name], prepare_image(record, modalities[name])[0])
                continue
            pixels, days, mask = prepare_series(record, modalities[name])
            series = prepared.series[name]
            count = len(series.days)
            assert mask[0].sum() == count
            assert np.array_equal(series.pixels, pixels[0, :count])
            assert np.array_equal(series.days, days[0, :count])
            voids += int(record.void.sum())
            empty += count == 0
    assert seen == set(MODALITIES)
    assert voids > 0, "no void pixel was compared"
    assert empty > 0, "no series without a date was compared"


def test_bands_are_taken_by_name(data_set, modalities):
    patch = data_set.split("train").patches[0]
    sample = read_sample(data_set.root, patch, dates=data_set.dates, modalities=["AERIAL_RGBI"])
    aerial = modalities["AERIAL_RGBI"]
    channels = {channel.name: channel for channel in aerial.channels}
    infrared = aerial.model_copy(
        update={"bands": ("NIR", "R", "G"), "channels": tuple(channels[band] for band in ("NIR", "R", "G"))}
    )
    whole = prepare_sample(sample, {"AERIAL_RGBI": aerial}).images["AERIAL_RGBI"]
    some = prepare_sample(sample, {"AERIAL_RGBI": infrared}).images["AERIAL_RGBI"]
    assert np.array_equal(some, whole[[3, 0, 1]])
    other = aerial.model_copy(update={"bands": ("SWIR",), "channels": ()})
    with pytest.raises(DataSetError, match="takes SWIR of AERIAL_RGBI, files hold R, G, B, NIR"):
        prepare_sample(sample, {"AERIAL_RGBI": other})


def test_dates_stay_with_their_days(data_set, modalities):
    patch = next(patch for patch in data_set.split("train").patches if "SENTINEL1-ASC_TS" in patch.files)
    sample = choose(read_sample(data_set.root, patch, dates=data_set.dates), modalities)
    for series in prepare_sample(sample, modalities).series.values():
        origin = series.dates.astype("datetime64[Y]").astype("datetime64[M]") + np.timedelta64(4, "M")
        days = (series.dates - (origin.astype("datetime64[D]") + np.timedelta64(14, "D"))).astype(int)
        assert np.array_equal(days, series.days)


def test_numbers_that_are_none_are_refused_with_their_patch(data_set, modalities):
    patch = data_set.split("train").patches[0]
    sample = read_sample(data_set.root, patch, dates=data_set.dates, modalities=["DEM_ELEV"])
    sample.images["DEM_ELEV"].values[0, 0, 3, 4] = np.inf
    with pytest.raises(DataSetError, match=f"{patch.id}: DEM_ELEV has .* NaN or infinite values"):
        prepare_sample(Sample(sample.patch, sample.images, {}, {}), modalities)


def test_labels_under_void_pixels_of_the_base_are_not_known(data_set, modalities):
    patch = data_set.split("train").patches[0]
    sample = read_sample(data_set.root, patch, dates=data_set.dates, modalities=["AERIAL_RGBI", "DEM_ELEV"])
    sample.images["AERIAL_RGBI"].void[0, :, 100:120] = True
    images = {name: modalities[name] for name in ("AERIAL_RGBI", "DEM_ELEV")}
    for task, label in prepare_sample(sample, images).labels.items():
        assert (label[:, 100:120] == 255).all()
        assert np.array_equal(np.delete(label, np.s_[100:120], 1), np.delete(sample.labels[task], np.s_[100:120], 1))
    # the same labels serve a network that begins with another sensor
    other = sample.of(["DEM_ELEV"])
    assert prepare_sample(other, {"DEM_ELEV": modalities["DEM_ELEV"]}).labels is sample.labels
