"""Real FLAIR images with their labels, and a real Sentinel-2 year, laid out as a data set."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import rasterio
from rasterio.windows import Window

from uperfuse.engine.flairhub import TASKS
from uperfuse.engine.rasters.dates import read_dates
from uperfuse.engine.series import clear_dates
from uperfuse.engine.simulation import MASK
from uperfuse.trainer.data import DataSet, Patch, PatchDataset, PatchId, check, collate
from uperfuse.trainer.data.dates import write_dates
from uperfuse.trainer.data.layout import METADATA_FOLDER, file_of
from uperfuse.trainer.data.splits import write_split

COVER = "AERIAL_LABEL-COSIA"
SERIES = "SENTINEL2_TS"
ROW, COLUMN = 21, 7


@pytest.fixture(scope="module")
def real(shared, tmp_path_factory):
    """Five aerial patches, the first of which gets a square of 10 x 10 pixels of a Sentinel-2 site."""
    root = tmp_path_factory.mktemp("real")
    (root / METADATA_FOLDER).mkdir()
    patches = []
    for image in sorted((shared / "data/flair_aerial/derived_flairhub").glob("*_AERIAL_RGBI.tif")):
        domain, year, zone, _, _, number, *_ = image.name.split("_")
        patch = PatchId(domain, year, f"{zone}-S1-V{number}", "1", "2")
        for product in ("AERIAL_RGBI", COVER):
            path = root / file_of(patch, product)
            path.parent.mkdir(parents=True)
            shutil.copy(image.with_name(image.name.replace("AERIAL_RGBI", product)), path)
        patches.append(Patch(patch, {"AERIAL_RGBI": "", COVER: ""}))
    (site,) = (shared / "data/worldcereal_belgium").glob("*/derived_flairhub")
    first = patches[0].id
    for product in (SERIES, MASK):
        path = root / file_of(first, product)
        path.parent.mkdir(parents=True)
        with rasterio.open(site / f"{product}.tif") as dataset:
            values = dataset.read(window=Window(COLUMN, ROW, 10, 10))
            profile = dataset.profile | {"width": 10, "height": 10, "tiled": False, "blockxsize": 10, "blockysize": 1}
        with rasterio.open(path, "w", **profile) as dataset:
            dataset.write(values)
    patches[0] = Patch(first, {"AERIAL_RGBI": "", SERIES: "", MASK: "", COVER: ""})
    days = np.array(read_dates(site / "SENTINEL2_dates.txt"), "datetime64[D]")
    write_dates(
        root / METADATA_FOLDER / "GLOBAL_SENTINEL2_MTD_DATES.gpkg", {str(first): days}, centres_m={str(first): (0, 0)}
    )
    write_split(root / "mine_TRAIN.csv", tuple(patches[:4]), separator=";")
    write_split(root / "mine_TEST.csv", tuple(patches[4:]), separator=";")
    return DataSet.open(root), site, days


def test_real_images_and_labels_have_no_defect(real):
    data_set, _, _ = real
    report = check(data_set.root)
    assert report.defects == ()
    seen = {c.name for c in report.classes if c.task == COVER and sum(c.pixels.values())}
    assert len(seen) == 9
    assert sum(sum(c.pixels.values()) for c in report.classes) == 5 * 512 * 512


def test_real_patches_make_a_batch(real, modalities):
    data_set, site, days = real
    patches = PatchDataset(data_set, data_set.split("train").patches, modalities=modalities)
    batch = collate([patches[index] for index in range(4)])
    assert batch.inputs["AERIAL_RGBI"].shape == (4, 4, 512, 512)
    assert batch.present[SERIES].tolist() == [True, False, False, False]
    with rasterio.open(site / f"{MASK}.tif") as dataset:
        mask = dataset.read(window=Window(COLUMN, ROW, 10, 10)).reshape(-1, 2, 10, 10)
    with rasterio.open(site / f"{SERIES}.tif") as dataset:
        values = dataset.read(window=Window(COLUMN, ROW, 10, 10)).reshape(-1, 10, 10, 10)
    clear = clear_dates(mask, rule=modalities[SERIES].filter)
    clear = clear[[bool(values[number].any()) for number in clear]]
    assert 0 < len(clear) < len(days)
    assert batch.masks[SERIES].sum(1).tolist() == [len(clear), 0, 0, 0]
    assert np.array_equal(batch.dates[SERIES][0], days[clear])
    assert np.array_equal(batch.inputs[SERIES][0].numpy(), values[clear].astype(np.float32))
    assert int(batch.labels[COVER].max()) < len(TASKS[COVER])
    for index, patch in enumerate(data_set.split("train").patches):
        with rasterio.open(data_set.root / patch.files[COVER]) as dataset:
            assert np.array_equal(batch.labels[COVER][index].numpy(), dataset.read(1))
