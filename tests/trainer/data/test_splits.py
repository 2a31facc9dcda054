"""Names, split files: the real ones, and every way to write a wrong one."""

from __future__ import annotations

import csv
import doctest
from pathlib import PurePosixPath

import pytest

from uperfuse.trainer.data import DataSet, DataSetError, PatchId, dates, layout
from uperfuse.trainer.data.layout import PRODUCTS, file_of
from uperfuse.trainer.data.splits import find_split_files, read_split, write_split

GOOD = "D012-2019_AF-S1-27_5-10"
CELL = f"../{file_of(PatchId.parse(GOOD), 'AERIAL_RGBI')}"


@pytest.fixture(scope="session")
def real(shared):
    return find_split_files(shared / "data" / "flairhub_toy_csv")


def test_real_split_files_are_read_line_by_line(real):
    splits = {name: read_split(name, file) for name, file in real.items()}
    assert {name: len(split.patches) for name, split in splits.items()} == {"train": 150, "valid": 50, "test": 50}
    assert splits["train"].domains == splits["valid"].domains == ("D006", "D032", "D038", "D044", "D051")
    assert splits["test"].domains == ("D012", "D068", "D069", "D083", "D085")
    for name, file in real.items():
        with file.open(newline="") as opened:
            rows = list(csv.DictReader(opened))
        for row, patch in zip(rows, splits[name].patches, strict=True):
            assert str(patch.id) == row.pop("patch_id")
            assert {product: f"../{path}" for product, path in patch.files.items()} == row
            assert set(patch.files) == set(PRODUCTS)


def test_real_regions_with_a_letter_before_their_number_keep_it(real):
    rois = {patch.id.roi for patch in read_split("train", real["train"]).patches}
    assert {"AA-S1-V18", "AA-S1-1"} <= rois


def test_the_file_of_a_patch_is_where_the_real_split_files_say(real):
    for patch in read_split("test", real["test"]).patches:
        for product, path in patch.files.items():
            assert file_of(patch.id, product) == PurePosixPath(path)


@pytest.mark.parametrize("separator", [",", ";"])
def test_what_is_written_is_read(real, tmp_path, separator):
    split = read_split("valid", real["valid"])
    first, *others = split.patches
    thinned = type(first)(first.id, {name: "" for name in first.folders if name != "SPOT_RGBI"})
    write_split(tmp_path / "a_VALID.csv", (thinned, *others), separator=separator)
    assert read_split("valid", tmp_path / "a_VALID.csv").patches == (thinned, *others)


@pytest.mark.parametrize("text", ["", "D012-2019_AF-S1-27", "D012_AF-S1-27_5-10", "D012-2019_AF-S1-27_5", "a_b_c_d"])
def test_what_is_no_patch_is_refused(text):
    with pytest.raises(DataSetError, match="is no patch, expected DOMAIN-YEAR_ROI_ROW-COLUMN"):
        PatchId.parse(text)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (f"patch_id\tAERIAL_RGBI\n{GOOD}\t{CELL}\n", "expected patch_id and products separated by ',' or ';'"),
        (f"id,AERIAL_RGBI\n{GOOD},{CELL}\n", "expected patch_id and products"),
        (f"patch_id,AERIAL_RBGI\n{GOOD},{CELL}\n", "unknown columns AERIAL_RBGI, expected patch_id and some of AERIAL"),
        (f"patch_id,AERIAL_RGBI,AERIAL_RGBI\n{GOOD},{CELL},{CELL}\n", "a column twice"),
        (f"patch_id,AERIAL_RGBI\n{GOOD};{CELL}\n", "line 2 of .* has 1 cells, expected 2"),
        (f"patch_id,AERIAL_RGBI\n{GOOD},{CELL}\n{GOOD},{CELL}\n", f"line 3 of .* lists {GOOD} again"),
        (f"patch_id,AERIAL_RGBI\n{GOOD},{CELL.replace('5-10', '5-9')}\n", "line 2 of .*: AERIAL_RGBI is .*expected"),
        (f"patch_id,AERIAL_RGBI\n{GOOD},/{CELL[3:]}\n", "AERIAL_RGBI is /D012"),
        (f"patch_id,AERIAL_RGBI\n{GOOD},a/../../{CELL[3:]}\n", "AERIAL_RGBI is a/"),
        ("patch_id,AERIAL_RGBI\nD012,\n", "line 2 of .*'D012' is no patch"),
        ("patch_id,AERIAL_RGBI\n", "lists no patch"),
        ("", "expected patch_id and products"),
    ],
)
def test_a_wrong_split_file_is_refused_in_a_sentence(tmp_path, content, said):
    file = tmp_path / "X_TRAIN.csv"
    file.write_text(content)
    with pytest.raises(DataSetError, match=said):
        read_split("train", file)


def test_rasters_may_lie_in_folders_of_their_own(tmp_path):
    (tmp_path / "x_TRAIN.csv").write_text(f"patch_id,AERIAL_RGBI\n{GOOD},./zips/aerial/{CELL[3:]}\n")
    (patch,) = read_split("train", tmp_path / "x_TRAIN.csv").patches
    assert patch.files == {"AERIAL_RGBI": f"zips/aerial/{CELL[3:]}"}


@pytest.mark.parametrize("module", [layout, dates])
def test_examples_run(module):
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


def test_split_files_are_found_by_the_end_of_their_names(tmp_path):
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "FLAIR-HUB_TEST.csv").touch()
    (tmp_path / "mine_VAL.csv").touch()
    (tmp_path / "notes.csv").touch()
    found = find_split_files(tmp_path)
    assert found == {"valid": tmp_path / "mine_VAL.csv", "test": tmp_path / "tables" / "FLAIR-HUB_TEST.csv"}


def test_two_files_of_one_split_are_refused_until_one_is_named(breakable):
    other = breakable.root / "mine_TRAIN.csv"
    other.write_bytes(breakable.csv.read_bytes())
    with pytest.raises(DataSetError, match="both list the split train, expected one"):
        DataSet.open(breakable.root)
    assert DataSet.open(breakable.root, splits={"train": other}).split("train").file == other


@pytest.mark.parametrize(("folder", "said"), [("", "holds no split file"), ("missing", "is no folder")])
def test_a_folder_without_split_files_is_refused(tmp_path, folder, said):
    with pytest.raises(DataSetError, match=said):
        find_split_files(tmp_path / folder)


def test_a_split_that_is_not_there_is_refused(breakable):
    with pytest.raises(DataSetError, match="has no split test, expected one of train"):
        DataSet.open(breakable.root).split("test")
