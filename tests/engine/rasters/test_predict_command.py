"""`uperfuse predict` from its options to its files; the engine itself is a formula."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from uperfuse.engine.cli import predict
from uperfuse.engine.errors import RasterError

from .formula import (
    CLASSES,
    RADIUS_PX,
    FormulaEngine,
    aerial_manifest,
    box_labels,
    make_manifest,
    make_modality,
    read_raster,
    write_raster,
)


class LoadedEngine(FormulaEngine):
    """The formula behind the door of an engine that was loaded."""

    asked: dict[str, Any]

    def __enter__(self) -> LoadedEngine:
        return self

    def __exit__(self, *failure: object) -> None:
        pass

    def describe(self) -> str:
        return "a formula [in] brackets"


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> LoadedEngine:
    loaded = LoadedEngine(aerial_manifest(bands=("NIR", "R", "G")))

    def load(path: Path, **asked: Any) -> LoadedEngine:
        loaded.asked = {"path": path, **asked}
        return loaded

    @contextmanager
    def opened(path: Path) -> Iterator[SimpleNamespace]:
        yield SimpleNamespace(path=path, hash=loaded.plan_hash, manifest=loaded.manifest)

    monkeypatch.setattr(predict.Engine, "load", load)
    monkeypatch.setattr(predict.Plan, "open", opened)
    return loaded


def run(*arguments: object) -> Any:
    app = typer.Typer()
    predict.register(app)
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


def ortho(folder: Path, *, rows: int = 90) -> Path:
    coarse = np.random.default_rng(0).integers(1, 255, (4, rows // 15 + 1, 10))
    values = np.kron(coarse, np.ones((15, 13))).astype(np.uint8)[:, :rows]
    return write_raster(folder / "ortho.tif", values, photometric="RGB", alpha="YES")


def test_options_reach_the_engine_and_the_map(engine: LoadedEngine, tmp_path: Path) -> None:
    path = ortho(tmp_path)
    result = run(
        *("land.plan", "--input", f"AERIAL_RGBI={path}", "--bands", "AERIAL_RGBI=NIR,G,B,R", "-o", tmp_path / "maps"),
        *("--halo", RADIUS_PX, "--device", "cpu", "--precision", "float32", "--threads", 2),
        *("--prime-cache", tmp_path),
        *("--probabilities", "--no-confidence"),
    )
    asked = {"device": "cpu", "precision": "float32", "threads": 2, "tile_px": 64, "prime_cache": tmp_path}
    assert engine.asked == {"path": Path("land.plan"), **asked}
    files = {file.name for file in (tmp_path / "maps").iterdir()}
    assert files == {f"ortho_LAND{end}" for end in (".tif", ".qml", ".tif.aux.xml", "_probabilities.tif")}
    labels = read_raster(tmp_path / "maps/ortho_LAND.tif")[0]
    np.testing.assert_array_equal(labels, box_labels(read_raster(path)[0], np.zeros((90, 130), np.bool_)))
    assert "a formula [in] brackets" in result.stdout
    assert "AERIAL_RGBI: NIR, R, G from bands 1, 4, 2 of ortho.tif (as given)" in result.stdout
    assert result.stderr == ""
    assert len(np.unique(labels)) == len(CLASSES)
    assert all(name in result.stdout for name in CLASSES)
    assert str(tmp_path / "maps/ortho_LAND.tif") in result.stdout.replace("\n", "")


def test_memory_is_no_word_for_a_gpu(engine: LoadedEngine, tmp_path: Path) -> None:
    with pytest.raises(RasterError, match="--memory is 4GB, and chooses tiles for a processor"):
        run("land.plan", "--input", f"AERIAL_RGBI={ortho(tmp_path)}", "--device", "cuda", "--memory", "4GB")


def test_a_scene_file_says_the_same(engine: LoadedEngine, tmp_path: Path) -> None:
    ortho(tmp_path)
    (tmp_path / "scene.yaml").write_text("inputs: {AERIAL_RGBI: {path: ortho.tif, bands: [NIR, G, B, R]}}")
    result = run("land.plan", tmp_path / "scene.yaml", "-o", tmp_path / "maps", "--quiet")
    assert (result.stdout, result.stderr) == ("", "")
    assert (tmp_path / "maps/ortho_LAND_confidence.tif").exists()


def test_dates_and_masks_of_a_series(engine: LoadedEngine, tmp_path: Path) -> None:
    engine.manifest = make_manifest(make_modality("SENTINEL2_TS"))
    series = write_raster(tmp_path / "s2.tif", np.full((20, 12, 15), 100, np.uint16))
    mask = write_raster(tmp_path / "mask.tif", np.stack([np.full((12, 15), sky, np.uint8) for sky in (0, 99, 0, 0)]))
    (tmp_path / "dates.txt").write_text("20210102\n20210304\n")
    run(
        *("crops.plan", "--input", f"SENTINEL2_TS={series}", "--dates", f"SENTINEL2_TS={tmp_path / 'dates.txt'}"),
        *("--mask", f"SENTINEL2_TS={mask}", "-o", tmp_path / "maps"),
    )
    days = [day.tolist() for call in engine.calls for tile in call["SENTINEL2_DATES"] for day in tile]
    assert {str(day) for day in days} == {"2021-03-04"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "no raster is given, expected a scene file or --input MODALITY=FILE"),
        (("scene.yaml", "--input", "A=b"), "are both given"),
        (("--input", "ortho.tif"), "not of the form MODALITY=VALUE"),
        (("--input", "AERIAL_RGBI=none.tif"), "none.tif cannot be opened"),
    ],
)
def test_what_cannot_be_mapped_is_one_sentence(engine: LoadedEngine, arguments: tuple[str, ...], words: str) -> None:
    with pytest.raises(RasterError) as caught:
        run("land.plan", *arguments)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_tiles_are_blended_and_several_readers_read(engine: LoadedEngine, tmp_path: Path) -> None:
    path = ortho(tmp_path)
    arguments = ("land.plan", "--input", f"AERIAL_RGBI={path}", "--bands", "AERIAL_RGBI=NIR,G,B,R", "--halo", 2)
    maps = {}
    for options in ((), ("--readers", 2), ("--blend", 2), ("--blend", 2, "--readers", 2)):
        out = tmp_path / f"maps{len(maps)}"
        run(*arguments, *options, "-o", out)
        maps[options] = (out / "ortho_LAND_confidence.tif").read_bytes()
    plain, read, blended, both = maps.values()
    assert plain == read != blended == both  # the formula's confidence is not the largest of its probabilities
    with pytest.raises(RasterError, match="blending of 3 px reaches beyond the halo of 2 px; blend at most 2 px"):
        run(*arguments, "--blend", 3, "-o", tmp_path / "wide")
    with pytest.raises(RasterError, match="0 readers, expected at least 1"):
        run(*arguments, "--readers", 0, "-o", tmp_path / "none")


def test_existing_maps_and_rasters_without_place(engine: LoadedEngine, tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(1, 255, (4, 70, 80), np.uint8)
    path = write_raster(tmp_path / "bare.tif", values, crs=None, transform=None)
    arguments = ("land.plan", "--input", f"AERIAL_RGBI={path}", "-o", tmp_path / "maps")
    with pytest.raises(RasterError, match="--allow-ungeoreferenced"):
        run(*arguments)
    result = run(*arguments, "--allow-ungeoreferenced")
    assert "pixels" in result.stdout
    with pytest.raises(RasterError, match="--overwrite"):
        run(*arguments, "--allow-ungeoreferenced")
    run(*arguments, "--allow-ungeoreferenced", "--overwrite")


def test_an_interrupted_run_goes_on(engine: LoadedEngine, tmp_path: Path) -> None:
    values = np.random.default_rng(3).integers(1, 255, (3, 600, 900), np.uint8)
    path = write_raster(tmp_path / "ortho.tif", values, names=("NIR", "R", "G"))
    arguments = ("land.plan", "--input", f"AERIAL_RGBI={path}", "-o", tmp_path / "maps")
    engine.fail_at_call = 2
    with pytest.raises(RuntimeError):
        run(*arguments)
    engine.fail_at_call = None
    with pytest.raises(RasterError, match=r"an interrupted run is kept in .*; go on with --resume, or .* --restart"):
        run(*arguments)
    with pytest.raises(RasterError, match="--resume goes on with a run and --restart throws it away; give one"):
        run(*arguments, "--resume", "--restart")
    done = run(*arguments, "--resume", "--keep-going")
    assert "sets the pace" in done.stdout
    labels = read_raster(tmp_path / "maps/ortho_LAND.tif")[0]
    run(*arguments[:3], "-o", tmp_path / "again")
    np.testing.assert_array_equal(labels, read_raster(tmp_path / "again/ortho_LAND.tif")[0])
