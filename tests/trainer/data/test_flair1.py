"""FLAIR #1 becomes FLAIR-HUB: real images and masks, whose classes somebody else has translated, too."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import rasterio

from uperfuse.trainer.data import DataSetError, check, import_flair1, read_sample


@pytest.fixture
def real(shared, tmp_path):
    """One image and its mask under the names of the toy set, one in the folders of the whole one."""
    folder = tmp_path / "flair1"
    folder.mkdir()
    given = shared / "data/flair_aerial"
    for name in ("IMG5", "MSK_flair1codes"):
        shutil.copy(given / f"D004_2021_Z6_NU_IMG_000473_{name}.tif", folder)
    for kind, name in (("IMG", "IMG5"), ("MSK", "MSK_flair1codes")):
        place = folder / "train" / "D074_2020" / "Z3_UN" / kind.lower()
        place.mkdir(parents=True)
        shutil.copy(given / f"D074_2020_Z3_UN_IMG_050549_{name}.tif", place / f"{kind}_050549.tif")
    return folder


def test_real_images_get_flair_hubs_names_and_classes(real, shared, tmp_path):
    data_set = import_flair1(real, tmp_path / "root")
    assert check(data_set.root).defects == ()
    patches = data_set.split("train").patches
    assert sorted(str(patch.id) for patch in patches) == ["D004-2021_NU-Z6-000473_1-1", "D074-2020_UN-Z3-050549_1-1"]
    translated = shared / "data/flair_aerial/derived_flairhub"
    for patch, name in zip(patches, ("D004_2021_Z6_NU_IMG_000473", "D074_2020_Z3_UN_IMG_050549"), strict=True):
        sample = read_sample(data_set.root, patch, dates={})
        with rasterio.open(translated / f"{name}_AERIAL_RGBI.tif") as image:
            assert np.array_equal(sample.images["AERIAL_RGBI"].values[0], image.read())
            where = image.transform
        with rasterio.open(translated / f"{name}_AERIAL_LABEL-COSIA.tif") as label:
            assert np.array_equal(sample.labels["AERIAL_LABEL-COSIA"], label.read(1))
        with rasterio.open(data_set.root / patch.files["AERIAL_RGBI"]) as written:
            assert written.transform == where


def test_a_data_set_grows(real, data_set, tmp_path):
    root = tmp_path / "root"
    shutil.copytree(data_set.root, root)
    grown = import_flair1(real, root, split="test")
    assert len(grown.split("test").patches) == len(data_set.split("test").patches) + 2
    assert grown.split("train").patches == data_set.split("train").patches
    with pytest.raises(DataSetError, match="lists D004-2021_NU-Z6-000473_1-1 already"):
        import_flair1(real, root, split="test")


def test_what_is_no_flair_1_is_refused(real, tmp_path):
    with pytest.raises(DataSetError, match="holds no image of FLAIR #1"):
        import_flair1(tmp_path / "nothing", tmp_path / "root")
    (real / "D004_2021_Z6_NU_IMG_000473_MSK_flair1codes.tif").unlink()
    with pytest.raises(DataSetError, match="has no mask; get it or leave D004-2021_NU-Z6-000473_1-1 out"):
        import_flair1(real, tmp_path / "root")
    assert not (tmp_path / "root").exists()
