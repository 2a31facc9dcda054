"""`uperfuse export` and `uperfuse predict` on real files, compared with PyTorch on the same tiles, pixel by pixel."""

from __future__ import annotations

import subprocess
import sys
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import pytest
import rasterio
import torch

from tests.golden import checkpoint
from uperfuse.engine import Plan
from uperfuse.engine.flairhub import MODALITIES
from uperfuse.engine.rasters import Scene
from uperfuse.engine.rasters.reader import SceneReader
from uperfuse.engine.rasters.tiling import Tiling, default_halo_px
from uperfuse.trainer.checkpoint import load_checkpoint
from uperfuse.trainer.export import reference_logits

VOID = 255
TASK = "AERIAL_LABEL-COSIA"
# Where PyTorch's two best classes are closer than this, float32 sums in another order may choose the other one.
TIE = 1e-3


def uperfuse(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does."""
    command = [sys.executable, "-W", "ignore", "-m", "uperfuse.engine.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def sentence(result: subprocess.CompletedProcess[str]) -> str:
    """The one sentence in which a command failed, its last."""
    last = result.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    assert "Traceback" not in result.stderr
    return last.removeprefix("error: ")


def predict(plan: Path, out: Path, *options: object) -> np.ndarray:
    """Labels of the only map that `uperfuse predict` writes."""
    result = uperfuse("predict", plan, *options, "-o", out, "--precision", "float32")
    assert result.returncode == 0, result.stderr
    (path,) = sorted(out.glob(f"*{TASK}.tif"))
    with rasterio.open(path) as map_:
        return map_.read(1)


def same_classes(labels: np.ndarray, logits: np.ndarray) -> None:
    """Every pixel whose class is not a tie for PyTorch [K, Y, X] has that class."""
    top = np.sort(logits, axis=0)
    clear = top[-1] - top[-2] > TIE
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(labels[clear], logits.argmax(0)[clear])


def normalised(path: Path, bands: tuple[int, ...], names: tuple[str, ...]) -> torch.Tensor:
    """Bands (1-based) of a raster as the published networks take them [1, C, Y, X]."""
    statistics = MODALITIES["AERIAL_RGBI"].statistics
    with rasterio.open(path) as raster:
        pixels = torch.from_numpy(raster.read(bands)).float()
    mean, std = (torch.tensor([statistics[name][place] for name in names])[:, None, None] for place in (0, 1))
    return ((pixels - mean) / std)[None]


@pytest.fixture(scope="session")
def published(shared, tmp_path_factory):
    """A golden-filled checkpoint named as a published one, its plan made by the command, and the network."""
    folder = tmp_path_factory.mktemp("published")

    def make(case: str, name: str):
        weights, plan = folder / f"{name}.safetensors", folder / f"{name}.plan"
        checkpoint(shared, case, weights)
        result = uperfuse("export", weights, "-o", plan)
        assert result.returncode == 0, result.stderr
        return plan, load_checkpoint(weights).network

    return make


def test_published_aerial_network_on_flair(published, shared, tmp_path):
    plan, network = published("lc-a_swin-tiny", "FLAIR-HUB_LC-A_RGB_swintiny-upernet")
    for path in sorted((shared / "data/flair_aerial/derived_flairhub").glob("*_RGBI.tif"))[:2]:
        labels = predict(
            plan, tmp_path / path.stem, "--input", f"AERIAL_RGBI={path}", "--bands", "AERIAL_RGBI=R,G,B,NIR"
        )
        with torch.inference_mode():
            logits = network({"AERIAL_RGBI": normalised(path, (1, 2, 3), ("R", "G", "B"))})[TASK][0].numpy()
        same_classes(labels, logits)
        with rasterio.open(path) as source, rasterio.open(next((tmp_path / path.stem).glob(f"*{TASK}.tif"))) as map_:
            assert map_.transform == source.transform
            assert map_.crs == source.crs
            with Plan.open(plan) as opened:
                assert map_.tags()["UPERFUSE_PLAN"] == opened.hash


def test_published_fusion_network_on_treesatai(published, shared, tmp_path):
    plan, network = published("lc-f_swin-tiny", "FLAIR-HUB_LC-F_swintiny-upernet")
    options = treesatai_options(shared, tmp_path)
    labels = predict(plan, tmp_path / "map", *options)
    same_classes(labels, pytorch_map(plan, network, options))


@pytest.mark.parametrize("site", ["Betula_spec._1_15679_WEFL_NLF", "Quercus_robur_7_85750_WEFL_NLF"])
def test_small_network_with_halos_on_treesatai(plans, shared, tmp_path, site):
    plan, network = plans("all")
    options = treesatai_options(shared, tmp_path, site=site, descending=False)
    result = uperfuse("predict", plan, *options, "-o", tmp_path / "map", "--precision", "float32")
    assert result.returncode == 0, result.stderr
    with rasterio.open(next((tmp_path / "map").glob(f"*{TASK}.tif"))) as map_:
        same_classes(map_.read(1), pytorch_map(plan, network, options))


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")  # neither photograph nor map has one
def test_small_network_on_a_photograph_without_georeference(plans, shared, tmp_path):
    plan, network = plans("aerial")
    path = next((shared / "data/neon_rgb_10cm").glob("*.png"))
    refused = uperfuse("predict", plan, "--input", f"AERIAL_RGBI={path}", "-o", tmp_path / "no")
    assert refused.returncode == 1
    assert sentence(refused)
    assert "--allow-ungeoreferenced" in refused.stderr
    assert not list(tmp_path.glob("no/*"))
    labels = predict(plan, tmp_path / "map", "--input", f"AERIAL_RGBI={path}", "--allow-ungeoreferenced")
    pixels = normalised(path, (1, 2, 3), ("R", "G", "B"))
    logits = np.full((19, *pixels.shape[-2:]), np.nan, np.float32)
    for place in Tiling(pixels.shape[-2:], tile_px=256, halo_px=default_halo_px(256)):
        rows, columns = (slice(span.start, span.start + 256) for span in (place.rows, place.columns))
        with torch.inference_mode():
            tile = network({"AERIAL_RGBI": pixels[..., rows, columns]})[TASK][0].numpy()
        logits[:, place.core_yx[0], place.core_yx[1]] = tile[:, place.core_in_tile_yx[0], place.core_in_tile_yx[1]]
    assert np.isfinite(logits).all()
    same_classes(labels, logits)


def pytorch_map(plan: Path, network, options: tuple[object, ...]) -> np.ndarray:
    """Logits [K, Y, X] of a scene by PyTorch, tile by tile; NaN where nothing was computed."""
    with Plan.open(plan) as opened:
        manifest = opened.manifest
    given = {kind: [str(v) for o, v in pairwise(options) if o == kind] for kind in OPTIONS}
    scene = Scene.from_options(given["--input"], dates=given["--dates"], masks=given["--mask"], bands=given["--bands"])
    with SceneReader(manifest, scene) as reader:
        tiling = Tiling(reader.grid.shape_yx, tile_px=manifest.base_px, halo_px=default_halo_px(manifest.base_px))
        logits = np.full((len(manifest.task(TASK).classes), *reader.grid.shape_yx), np.nan, np.float32)
        for place in tiling:
            inputs = reader.read(place)
            assert inputs is not None
            batch = {
                name: value[None] if isinstance(value, np.ndarray) else value for name, value in inputs.tiles.items()
            }
            voids = {name: value[None] for name, value in inputs.voids.items()}
            tile = reference_logits(network, manifest, batch, voids=voids)[TASK][0]
            logits[:, place.core_yx[0], place.core_yx[1]] = tile[:, place.core_in_tile_yx[0], place.core_in_tile_yx[1]]
    return logits


OPTIONS = ("--input", "--dates", "--mask", "--bands")


def treesatai_options(
    shared: Path, folder: Path, *, site: str = "Betula_spec._1_15679_WEFL_NLF", descending: bool = True
) -> tuple[object, ...]:
    """Options for one site of TreeSatAI, its series written as GeoTIFFs on their 10 m grid."""
    source = shared / "data/treesatai_ts"
    aerial = source / f"{site}.tif"
    options: list[object] = ["--input", f"AERIAL_RGBI={aerial}", "--bands", "AERIAL_RGBI=NIR,G,B,R"]
    (series,) = source.glob(f"{site}_*.h5")
    with rasterio.open(aerial) as raster, h5py.File(series) as file:
        corner = (raster.bounds.left, raster.bounds.top)

        def write(name: str, values: np.ndarray) -> None:
            write_series(folder / f"{name}.tif", values, corner=corner, crs=raster.crs)

        optical = np.nan_to_num(file["sen-2-data"][:]).clip(0, 65535).astype(np.uint16)
        write("SENTINEL2_TS", optical)
        write("SENTINEL2_MSK", (100 * (file["sen-2-masks"][:] > 0)).astype(np.uint8))
        days = {"SENTINEL2_TS": [product.decode().split("_")[2] for product in file["sen-2-products"][:]]}
        options += ["--mask", f"SENTINEL2_TS={folder / 'SENTINEL2_MSK.tif'}"]
        options += ["--bands", "SENTINEL2_TS=B02,B03,B04,B08,B05,B06,B07,B8A,B11,B12"]
        orbits = {"SENTINEL1-ASC_TS": "asc"} | ({"SENTINEL1-DESC_TS": "des"} if descending else {})
        for name, orbit in orbits.items():
            write(name, file[f"sen-1-{orbit}-data"][:].astype(np.float32))
            days[name] = [product.decode().split("_")[4] for product in file[f"sen-1-{orbit}-products"][:]]
    for name, stamps in days.items():
        dates = [datetime.strptime(stamp[:8], "%Y%m%d").date() for stamp in stamps]
        (folder / f"{name}.txt").write_text("".join(f"{day:%Y%m%d}\n" for day in dates))
        options += ["--input", f"{name}={folder / name}.tif", "--dates", f"{name}={folder / name}.txt"]
    return tuple(options)


def write_series(path: Path, values: np.ndarray, *, corner: tuple[float, float], crs) -> None:
    """[T, C, Y, X] at 10 m, centred on the corner that the aerial image has."""
    flat = values.reshape(-1, *values.shape[-2:])
    profile = {"driver": "GTiff", "count": len(flat), "height": flat.shape[1], "width": flat.shape[2]}
    nodata = {"nodata": float("nan")} if flat.dtype == np.float32 else {}
    with rasterio.open(
        path,
        "w",
        dtype=flat.dtype,
        crs=crs,
        transform=rasterio.Affine(10, 0, corner[0], 0, -10, corner[1]),
        **profile,
        **nodata,
    ) as out:
        out.write(flat)


def test_edge_cases_are_mapped_or_refused_by_the_command(plans, shared, tmp_path):
    plan, _ = plans("aerial")
    outcomes = {}
    for path in sorted((shared / "data/geotiff_edge_cases").glob("*.tif")):
        result = uperfuse("predict", plan, "--input", f"AERIAL_RGBI={path}", "-o", tmp_path / path.stem)
        outcomes[path.stem] = result.returncode
        if result.returncode:
            assert result.returncode == 1
            assert sentence(result)
            assert not list(tmp_path.glob(f"{path.stem}/*.tif"))
    stem = "201404_13SED190110_201404_0x1500m_CL_1"
    assert {name for name, code in outcomes.items() if code == 0} >= {
        stem,
        *(f"{stem}_{kind}" for kind in ("alpha", "mask")),
    }
    void = {}
    for name, code in outcomes.items():
        if code == 0:
            with rasterio.open(next((tmp_path / name).glob(f"*{TASK}.tif"))) as map_:
                void[name] = (map_.read(1) == VOID).mean()
    assert void[f"{stem}_alpha"] > void[stem]
