"""The check before training: every defect is made on purpose, and found in words."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import rasterio

from tests.trainer.data.test_dates import rows_of
from uperfuse.engine.flairhub import TASKS
from uperfuse.trainer.data import DataSet, DataSetError, check, read_sample
from uperfuse.trainer.data.dates import read_rows


def only_defect(breakable) -> str:
    """The one defect that the check finds; training meets it, too."""
    report = check(breakable.root)
    assert len(report.defects) == 1, report.defects
    with pytest.raises(DataSetError, match="is broken: "):
        report.require()
    return report.defects[0]


def first_sample(root):
    data_set = DataSet.open(root)
    return read_sample(data_set.root, data_set.split("train").patches[0], dates=data_set.dates)


def refused_by_training(breakable) -> str:
    with pytest.raises(DataSetError) as caught:
        first_sample(breakable.root)
    return str(caught.value)


def test_a_whole_data_set_has_no_defect(data_set):
    report = check(data_set.root)
    assert report.defects == ()
    assert report.remarks == ()
    report.require()


def test_patches_and_products_are_counted_by_domain(data_set):
    report = check(data_set.root)
    for count in report.domains:
        patches = [p for p in data_set.split(count.split).patches if p.id.domain == count.domain]
        assert count.patches == len(patches) > 0
        assert all(held == sum(name in p.files for p in patches) for name, held in count.products.items())
    assert sum(count.patches for count in report.domains) == 20


def test_pixels_and_domains_are_counted_by_class(data_set):
    report = check(data_set.root, workers=2)
    assert report == check(data_set.root)
    for split in data_set.splits.values():
        expected = {(task, entry.name): [0, set()] for task, entries in TASKS.items() for entry in entries}
        for patch in split.patches:
            for task in TASKS.keys() & patch.files.keys():
                with rasterio.open(data_set.root / patch.files[task]) as dataset:
                    values, counts = np.unique(dataset.read(1), return_counts=True)
                for value, count in zip(values.tolist(), counts.tolist(), strict=True):
                    expected[task, TASKS[task][value].name][0] += count
                    expected[task, TASKS[task][value].name][1].add(patch.id.domain)
        found = {(c.task, c.name): [c.pixels[split.name], c.domains[split.name]] for c in report.classes}
        assert found == {key: [count, len(domains)] for key, (count, domains) in expected.items()}


def test_a_missing_file(breakable):
    breakable.file("DEM_ELEV").unlink()
    assert "DEM_ELEV" in only_defect(breakable)
    assert only_defect(breakable).endswith("is not there, and its split file lists it; get it or empty its cell")
    assert refused_by_training(breakable) == only_defect(breakable)


@pytest.mark.parametrize("product", ["AERIAL_RGBI", "SENTINEL2_TS", "ALL_LABEL-LPIS", "SENTINEL2_MSK-SC"])
def test_a_wrong_size(breakable, copy_of, product):
    copy_of(product, lambda values: values[:, :-1], tiled=False)
    side = {"SENTINEL2_TS": 10, "SENTINEL2_MSK-SC": 10}.get(product, 512)
    assert f"has {side - 1} x {side} px, expected {side} x {side} for {product}" in only_defect(breakable)
    assert refused_by_training(breakable) == only_defect(breakable)


@pytest.mark.parametrize(("product", "bands"), [("AERIAL_RGBI", 4), ("ALL_LABEL-LPIS", 3), ("AERIAL-RLT_PAN", 1)])
def test_a_wrong_number_of_bands(breakable, copy_of, product, bands):
    copy_of(product, lambda values: np.concatenate([values, values[:1]]), photometric="MINISBLACK")
    assert f"has {bands + 1} bands, expected {bands} bands for {product}" in only_defect(breakable)
    assert refused_by_training(breakable) == only_defect(breakable)


@pytest.mark.parametrize("product", ["SENTINEL2_TS", "SENTINEL1-DESC_TS", "SENTINEL2_MSK-SC"])
def test_a_series_with_a_date_more_than_it_has_acquisitions(breakable, copy_of, product):
    bands = 10 if product == "SENTINEL2_TS" else 2
    copy_of(product, lambda values: values[:-bands])
    assert f"dates of {bands} bands for {product}" in only_defect(breakable)
    assert refused_by_training(breakable) == only_defect(breakable)


def test_a_type_that_is_none_of_the_product(breakable, copy_of):
    copy_of("SPOT_RGBI", lambda values: values.astype(np.float32) / 3)
    assert "is of type float32, expected uint16 for SPOT_RGBI" in only_defect(breakable)
    assert refused_by_training(breakable) == only_defect(breakable)


def test_numbers_that_do_not_fit_the_product(breakable, copy_of):
    copy_of("AERIAL_RGBI", lambda values: values.astype(np.uint16) + 100)
    assert "do not fit uint8 (0 to 255)" in only_defect(breakable)
    assert refused_by_training(breakable) == only_defect(breakable)


@pytest.mark.parametrize(
    ("task", "value", "classes"),
    [("AERIAL_LABEL-COSIA", 19, 18), ("ALL_LABEL-LPIS", 23, 22), ("ALL_LABEL-LPIS", 255, 22)],
)
def test_a_label_out_of_range(breakable, copy_of, task, value, classes):
    def spoil(values):
        values[0, 3, 5:8] = value
        return values

    copy_of(task, spoil)
    assert f"holds {value} in 3 pixels, expected classes 0 to {classes} of {task}" in only_defect(breakable)
    assert refused_by_training(breakable) == only_defect(breakable)


def test_only_the_level_that_is_learnt_must_be_in_range(breakable, copy_of):
    def spoil(values):
        values[2] = 46
        return values

    copy_of("ALL_LABEL-LPIS", spoil)
    assert check(breakable.root).defects == ()


@pytest.mark.parametrize("share", [0.5, 0.02])
def test_a_truncated_file(breakable, share):
    path = breakable.file("AERIAL_RGBI")
    os.truncate(path, int(path.stat().st_size * share))
    assert "AERIAL_RGBI" in only_defect(breakable)
    assert "get it anew" in only_defect(breakable)
    assert refused_by_training(breakable) == only_defect(breakable)


def test_a_file_that_is_no_raster(breakable):
    breakable.file("SPOT_RGBI").write_text("404: not found")
    assert "cannot be opened as a raster" in only_defect(breakable)
    assert refused_by_training(breakable) == only_defect(breakable)


def rewrite_dates(breakable, series, change) -> None:
    path, name = breakable.dates(series), str(breakable.patch.id)
    said = change(json.loads(read_rows(path)[name]))
    path.unlink()
    rows_of(path, [name], [json.dumps(said)])


def test_an_unreadable_date(breakable):
    rewrite_dates(breakable, "SENTINEL2_TS", lambda said: said | {"3": "20210231"})
    assert "acquisition 3: '20210231' is no day of the calendar" in only_defect(breakable)
    assert refused_by_training(breakable) == only_defect(breakable)


def test_a_date_that_was_left_out(breakable):
    rewrite_dates(breakable, "SENTINEL2_TS", lambda said: {n: day for n, day in said.items() if n != "3"})
    assert "no date of acquisition 3" in only_defect(breakable)
    assert refused_by_training(breakable) == only_defect(breakable)


def test_a_patch_without_dates(breakable):
    path = breakable.dates("SENTINEL1-ASC_TS")
    path.unlink()
    rows_of(path, ["D000-2000_AA-S1-1"], ["{}"])
    assert f"has no dates of {breakable.patch.id}" in only_defect(breakable)
    assert refused_by_training(breakable) == only_defect(breakable)


def test_a_series_without_its_table_of_dates(breakable):
    breakable.dates("SENTINEL1-ASC_TS").unlink()
    assert "is not there, and SENTINEL1-ASC_TS needs its dates" in only_defect(breakable)
    assert refused_by_training(breakable) == only_defect(breakable)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text.replace(",", "\t"), "separated by ',' or ';'"),
        (lambda text: text.replace("SPOT_RGBI", "SPOT_RBGI", 1), "unknown columns SPOT_RBGI"),
        (lambda text: text.replace("\n", ",\n").replace(",\n", "\n", 1), "has 12 cells, expected 11"),
    ],
)
def test_a_split_file_with_a_wrong_separator_or_columns(breakable, change, said):
    breakable.csv.write_text(change(breakable.csv.read_text()))
    assert said in only_defect(breakable)
    assert refused_by_training(breakable) == only_defect(breakable)


def test_a_patch_in_two_splits(breakable):
    (breakable.root / "FLAIR-HUB_TEST.csv").write_bytes(breakable.csv.read_bytes())
    assert f"{breakable.patch.id} is in the splits train and test" in only_defect(breakable)
    assert refused_by_training(breakable) == only_defect(breakable)


def test_a_series_without_its_masks(breakable):
    text = breakable.csv.read_text()
    cell = f"../{breakable.patch.files['SENTINEL2_MSK-SC']}"
    assert cell in text
    breakable.csv.write_text(text.replace(cell, ""))
    assert "has SENTINEL2_TS without SENTINEL2_MSK-SC" in only_defect(breakable)


def test_all_defects_are_found_at_once(breakable):
    breakable.file("DEM_ELEV").unlink()
    breakable.file("SPOT_RGBI").write_text("")
    rewrite_dates(breakable, "SENTINEL1-DESC_TS", lambda said: said | {"1": "soon"})
    report = check(breakable.root)
    assert len(report.defects) == 3
    with pytest.raises(DataSetError, match=r"is broken \(and 2 more\): "):
        report.require()


def test_a_domain_that_is_trained_and_tested_on_is_remarked(breakable):
    name = str(breakable.patch.id)
    place = f"{breakable.patch.id.row}-{breakable.patch.id.column}"
    other = breakable.root / "FLAIR-HUB_TEST.csv"
    other.write_text(f"patch_id,AERIAL_RGBI\n{name[: -len(place)]}9-9,\n")
    remarks = check(breakable.root).remarks
    assert remarks[0] == "no split valid"
    assert f"train and test share the domains {breakable.patch.id.domain}" in remarks[1]


def run(*arguments):
    command = [sys.executable, "-m", "uperfuse.engine.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_command_lists_counts_and_defects_and_fails(breakable):
    whole = run("data", "check", breakable.root)
    assert whole.returncode == 0, whole.stderr
    assert "nothing is broken" in whole.stdout
    assert breakable.patch.id.domain in whole.stdout
    assert all(entry.name.split()[0] in whole.stdout for entries in TASKS.values() for entry in entries)
    breakable.file("DEM_ELEV").unlink()
    broken = run("data", "check", breakable.root)
    assert broken.returncode == 1
    assert "Defects" in broken.stdout
    assert broken.stderr.startswith("error: ")
    assert broken.stderr.count("\n") == 1
    assert "is broken" in broken.stderr


def test_the_command_simulates_what_the_command_finds_whole(tmp_path):
    root = tmp_path / "root"
    made = run("data", "simulate", "-o", root, "--patches", "4", "--seed", "7")
    assert made.returncode == 0, made.stderr
    assert [line.split(":")[0] for line in made.stdout.splitlines()] == ["train", "valid", "test"]
    assert check(root).defects == ()
    again = run("data", "simulate", "-o", root, "--patches", "4")
    assert again.returncode == 1
    assert again.stderr == f"error: {root} is there already; choose another folder or remove it\n"
