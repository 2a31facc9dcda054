"""Scene files and options: read as meant, or refused in one sentence."""

import datetime
from pathlib import Path

import pytest

from uperfuse.engine.errors import RasterError
from uperfuse.engine.rasters import Scene
from uperfuse.engine.rasters.dates import parse_date, read_dates

A_SCENE = """
inputs:
  AERIAL_RGBI: ortho.tif
  SENTINEL2_TS:
    path: /elsewhere/s2.tif
    dates: [20210114, 2021-02-03, "2021-02-05"]
    mask: masks/s2.tif
    bands: [B02, B03]
    nodata: 0
  SENTINEL1-ASC_TS: {path: s1.tif, dates: s1.txt, bands: [2, 1], nodata: .nan}
"""


def test_a_scene_file_is_read_beside_itself(tmp_path: Path) -> None:
    (tmp_path / "scene.yaml").write_text(A_SCENE)
    inputs = Scene.from_yaml(tmp_path / "scene.yaml").inputs
    assert inputs["AERIAL_RGBI"].path == tmp_path / "ortho.tif"
    optical = inputs["SENTINEL2_TS"]
    assert (optical.path, optical.mask) == (Path("/elsewhere/s2.tif"), tmp_path / "masks/s2.tif")
    assert optical.dates == (datetime.date(2021, 1, 14), datetime.date(2021, 2, 3), datetime.date(2021, 2, 5))
    assert (optical.bands, optical.nodata) == (("B02", "B03"), 0.0)
    assert (inputs["SENTINEL1-ASC_TS"].bands, inputs["SENTINEL1-ASC_TS"].dates) == ((2, 1), tmp_path / "s1.txt")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("inputs: {}", "at least 1 item"),
        ("[1, 2]", "dictionary"),
        ("inputs: {A: {path: x, colour: red}}", "inputs.A.colour"),
        ("inputs: {A: x}\nhalo: 3", "halo"),
        ("inputs: {A: x, A: y}", "key A is written twice"),
        ("inputs: {A: {path: x, dates: [2021-13-01]}}", "month must be in 1..12"),
        ("inputs: {A: {path: x, dates: ['14.01.2021']}}", "'14.01.2021' is not a date, expected YYYYMMDD"),
        ("inputs: {A: {path: x, bands: [R, R]}}", "empty, zero or repeated"),
        ("inputs: {A: {path: x, bands: [0, 1]}}", "empty, zero or repeated"),
        ("inputs: [", "cannot be read"),
        ("!!python/object/apply:os.system [ls]", "cannot be read"),
    ],
)
def test_a_wrong_scene_file_is_refused(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "scene.yaml").write_text(content)
    with pytest.raises(RasterError) as caught:
        Scene.from_yaml(tmp_path / "scene.yaml")
    assert words in str(caught.value)
    assert "scene.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_scene_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RasterError, match=r"none.yaml cannot be read: .*No such file"):
        Scene.from_yaml(tmp_path / "none.yaml")


def test_options_make_the_same_scene_as_a_file(tmp_path: Path) -> None:
    (tmp_path / "scene.yaml").write_text(
        "inputs:\n  A: /a.tif\n  B: {path: /b.tif, dates: /d.txt, mask: /m.tif, bands: [NIR, G]}\n"
        "  C: {path: /c=d, bands: [3, 1]}\n"
    )
    scene = Scene.from_options(
        ["A=/a.tif", "B=/b.tif", "C=/c=d"],
        dates=["B=/d.txt"],
        masks=["B=/m.tif"],
        bands=["B=NIR, G", "C=3,1"],
    )
    assert scene == Scene.from_yaml(tmp_path / "scene.yaml")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"inputs": ["ortho.tif"]}, "--input ortho.tif is not of the form MODALITY=VALUE"),
        ({"inputs": ["A=x", "A=y"]}, "--input is given twice for A: x and y"),
        ({"inputs": ["A=x"], "dates": ["B=d"]}, "--dates B=d has no raster; add --input B=FILE"),
        ({"inputs": ["A=x"], "masks": ["B=d"]}, "--mask B=d has no raster"),
        ({"inputs": ["A=x"], "bands": ["A=R,,G"]}, "empty, zero or repeated"),
        ({"inputs": ["A=x"], "bands": ["A="]}, "not of the form"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, list[str]], words: str) -> None:
    with pytest.raises(RasterError) as caught:
        Scene.from_options(**options)
    assert words in str(caught.value)


def test_dates_are_read_in_both_forms(tmp_path: Path) -> None:
    file = tmp_path / "dates.txt"
    file.write_text("\ufeff20210114\r\n 2020-02-29 \n20211231\n\n")
    assert read_dates(file) == (datetime.date(2021, 1, 14), datetime.date(2020, 2, 29), datetime.date(2021, 12, 31))


@pytest.mark.parametrize("text", ["", "2021-0114", "20211301", "20210229", "2021/01/14", "1", "20210114T10", "date"])
def test_what_is_no_date_is_an_error_that_names_the_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a date|is no day of the calendar"):
        parse_date(text)
    file = tmp_path / "dates.txt"
    file.write_text(f"20210101\n{text}\n20210103\n")
    with pytest.raises(RasterError, match=rf"line 2 of .*dates.txt: '{text}' is no.*; correct it"):
        read_dates(file)


def test_a_missing_file_of_dates_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RasterError, match=r"dates cannot be read from .*none.txt"):
        read_dates(tmp_path / "none.txt")
