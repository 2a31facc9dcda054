"""The other sides of the benchmarks are the same network, and cut rasters as they say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch

from benchmarks.networks import TINY, spec_of
from benchmarks.published import Published, inputs_of, textbook_attention
from benchmarks.raster import complete_labels, our_tiles, scaled
from benchmarks.rasters import FULL_PX, aerial_raster, scene_of
from benchmarks.zonal import EQUAL, SHIPPED, Squares, map_zonally
from tests import golden
from tests.conftest import randomise
from uperfuse.engine.agreement import relative_error
from uperfuse.engine.check import check_tiles_of
from uperfuse.engine.flairhub import MODALITIES, dates_key
from uperfuse.engine.plan.plan import Plan
from uperfuse.engine.rasters.reader import SceneReader
from uperfuse.kernels.temporal_attention.reference import AttentionWeights, naive
from uperfuse.trainer.export.check import reference_logits
from uperfuse.trainer.network import UPerFuse

PX = 24


def test_the_authors_network_has_the_numbers_of_the_reference(shared: Path) -> None:
    """LC-L's kinds of modalities at once, and its golden outputs."""
    case = "lc-all_swin-tiny"
    maker = golden.recipe(shared)
    description, expected = maker.load(case)
    network = Published(golden.network(shared, case)).eval()
    arrays = {key: torch.from_numpy(array) for key, array in maker.inputs(description).items()}
    inputs = {key: arrays[key] for key in description["modalities"]}
    days = {key: arrays[dates_key(key)] for key in inputs if key.endswith("_TS")}
    with torch.inference_mode():
        logits = network(inputs, days)
    for task, found in logits.items():
        (sparse,) = (array for key, array in expected.items() if task in key and array.ndim == 3)
        step = golden.STRIDE_PX
        assert relative_error(found[0].numpy()[:, ::step, ::step], sparse) <= golden.MAX_RELATIVE_ERROR


def test_series_alone_are_averaged() -> None:
    torch.manual_seed(3)
    network = UPerFuse(spec_of("SENTINEL2_TS", "SENTINEL1-ASC_TS")).eval()
    randomise(network)
    inputs = {"SENTINEL2_TS": torch.rand(2, 4, 10, 10, 10), "SENTINEL1-ASC_TS": torch.rand(2, 3, 2, 10, 10)}
    days = {"SENTINEL2_TS": torch.arange(8.0).view(2, 4), "SENTINEL1-ASC_TS": torch.arange(6.0).view(2, 3)}
    with torch.inference_mode():
        ours, theirs = network(inputs, days), Published(network)(inputs, days)
    for task, logits in theirs.items():
        torch.testing.assert_close(logits, ours[task], rtol=1e-4, atol=1e-4)


def test_textbook_attention_is_the_naive_one() -> None:
    torch.manual_seed(5)
    H, K, D, C, T = 4, 2, 16, 8, 5
    shapes = {"norm_scale": (C,), "norm_shift": (C,), "embed": (D, C), "embed_bias": (D,)}
    shapes |= {"key": (H * K, D), "key_bias": (H * K,), "query": (H, K)}
    weights = AttentionWeights(**{name: torch.randn(shape, dtype=torch.double) for name, shape in shapes.items()})
    features, days = torch.randn(2, T, C, 3, 2, dtype=torch.double), torch.randn(2, T, dtype=torch.double) * 90
    context, attention = textbook_attention(features, days, weights=weights)
    wanted, shares = naive(features, days, torch.ones(2, T), weights=weights)
    torch.testing.assert_close(context.unflatten(0, (2, 3, 2)).permute(0, 3, 1, 2), wanted)
    torch.testing.assert_close(attention, shares)


def test_inputs_are_those_of_the_export_s_check(plans) -> None:
    path, network = plans("all")
    with Plan.open(path) as plan:
        tiles = check_tiles_of(plan.manifest, seed=1, dates=3)
        inputs, days = inputs_of(plan.manifest, tiles)
        wanted = reference_logits(network, plan.manifest, tiles)
        assert all(each.shape[1] == 3 for each in days.values()), "nothing is padded"
        size = (plan.manifest.label_px,) * 2
    with torch.inference_mode():
        found = network(inputs, days, output_px=size)
    for task, logits in wanted.items():
        assert relative_error(found[task].numpy(), logits) <= 1e-5


@pytest.mark.parametrize(("side_px", "ours", "shipped", "equal"), [(1024, 9, 1, 9), (FULL_PX, 676, 100, 729)])
def test_tiles_that_times_are_scaled_by(side_px, ours, shipped, equal) -> None:
    assert our_tiles(side_px, tile_px=512) == ours
    assert SHIPPED.count(side_px) == shipped
    assert EQUAL.count(side_px) == equal


def test_times_scale_with_tiles() -> None:
    assert scaled([2.0, 3.0], small=4, full=100) == [50.0, 75.0]


@pytest.mark.parametrize("length", [3, 17, 24, 40, 41])
def test_cores_of_squares_cover_the_raster(length) -> None:
    squares = Squares(PX, 4)
    seen = np.zeros(length, int)
    for corner in squares.corners(length):
        seen[max(corner + 4, 0) : corner + PX - 4] += 1
    assert seen.min() >= 1


# rasterio 1.4 multiplies transforms in a way that affine 3.1 would like changed
@pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")
def test_a_zonal_map_is_the_network_s(tmp_path: Path) -> None:
    """A network that looks at one pixel at a time gives the same map however a raster is cut."""
    bands = 3
    rng = np.random.default_rng(2)
    profile = {"driver": "GTiff", "count": bands, "height": 53, "width": 70, "dtype": "uint8"}
    pixels = rng.integers(0, 256, (bands, 53, 70), np.uint8)
    transform = rasterio.Affine(0.2, 0, 0, 0, -0.2, 0)
    with rasterio.open(tmp_path / "a.tif", "w", crs="EPSG:2154", transform=transform, **profile) as raster:
        raster.write(pixels)
    facts = MODALITIES["AERIAL_RGBI"]
    mean, std = (np.array([facts.statistics[band][k] for band in facts.usual], np.float32) for k in (0, 1))
    wanted = ((pixels - mean[:, None, None]) / std[:, None, None]).argmax(0)
    out = map_zonally(lambda tensor: tensor, tmp_path / "a.tif", tmp_path / "b.tif", squares=Squares(PX, 4))
    with rasterio.open(out) as labels:
        np.testing.assert_array_equal(labels.read(1), wanted)


def test_an_incomplete_map_gets_no_time(tmp_path: Path) -> None:
    pixels = np.arange(16, dtype=np.uint8).reshape(4, 4)
    profile = {"driver": "GTiff", "count": 1, "height": 4, "width": 4, "dtype": "uint8"}
    transform = rasterio.Affine(0.2, 0, 0, 0, -0.2, 0)
    for name, hole in (("whole", 3), ("torn", 255)):
        pixels[2, 1] = hole
        with rasterio.open(tmp_path / f"{name}.tif", "w", crs="EPSG:2154", transform=transform, **profile) as raster:
            raster.write(pixels, 1)
    pixels[2, 1] = 3
    np.testing.assert_array_equal(complete_labels(tmp_path / "whole.tif", 4), pixels)
    with pytest.raises(AssertionError, match=r"torn\.tif has void pixels"):
        complete_labels(tmp_path / "torn.tif", 4)
    with pytest.raises(AssertionError, match="is a map of"):
        complete_labels(tmp_path / "whole.tif", 5)


def test_a_raster_of_any_size_repeats_the_countryside(tmp_path: Path, plans) -> None:
    path = aerial_raster(tmp_path / "a.tif", side_px=1100, bands=("R", "G", "B"))
    with rasterio.open(path) as raster:
        pixels = raster.read()
        assert raster.descriptions == ("R", "G", "B")
    np.testing.assert_array_equal(pixels[:, 1024:, 1024:], pixels[:, :76, :76])
    assert pixels.std((1, 2)).min() > 5
    plan_path, _ = plans("aerial")
    with Plan.open(plan_path) as plan, SceneReader(plan.manifest, scene_of(path)) as reader:
        assert reader.grid.shape_yx == (1100, 1100)


def test_the_tiny_backbone_is_known_to_every_network() -> None:
    assert UPerFuse(spec_of("AERIAL_RGBI", "SPOT_RGBI", encoder=TINY)).spec.images[1].backbone == TINY
