"""Whole networks on their kernels, in Triton's interpreter, against the same networks on the references."""

from __future__ import annotations

import copy

import pytest
import torch

from tests.conftest import randomise
from tests.golden import assert_logits, network
from uperfuse import kernels as uperfuse_kernels
from uperfuse.trainer.network import BackboneSpec, ImageSpec, NetworkSpec, SeriesSpec, TaskSpec, UPerFuse

from .traffic import measure

EVERY_OPERATION = {"pyramid_fusion", "temporal_aggregate", "temporal_attention", "window_attention"}


def small_network() -> NetworkSpec:
    """Aerial, elevation, SPOT and Sentinel-2, in shapes that every kernel takes: heads 32 wide, 16 groups."""
    swin = BackboneSpec("swin", (32, 64, 128, 256), (2, 1, 1, 1), (1, 2, 4, 8), (7, 7, 7, 7))
    images = (
        ImageSpec("AERIAL_RGBI", 3, 64, swin),
        ImageSpec("DEM_ELEV", 2, 64, BackboneSpec("convnextv2", (32, 64, 128, 256), (1, 1, 1, 1))),
        ImageSpec("SPOT_RGBI", 3, 32, swin),
    )
    widths = (16, 16, 32, 64)
    series = SeriesSpec("SENTINEL2_TS", 10, widths, widths, heads=16, d_key=4, d_model=64, out_widths=(16, 19))
    task = TaskSpec("AERIAL_LABEL-COSIA", 19)
    return NetworkSpec(images, (series,), (task,), pyramid_channels=32, absent=("DEM_ELEV", "SPOT_RGBI"))


@pytest.fixture(scope="module")
def made() -> UPerFuse:
    torch.manual_seed(3)
    made = UPerFuse(small_network()).eval()
    randomise(made)
    return made


def inputs_of(names: tuple[str, ...]) -> tuple[dict, dict, dict]:
    """Inputs, days and masks for some modalities: two samples, padded dates."""
    torch.manual_seed(4)
    shapes = {
        "AERIAL_RGBI": (2, 3, 64, 64),
        "DEM_ELEV": (2, 2, 64, 64),
        "SPOT_RGBI": (2, 3, 32, 32),
        "SENTINEL2_TS": (2, 9, 10, 5, 7),
    }
    inputs = {name: torch.randn(shapes[name]) for name in names}
    days = {"SENTINEL2_TS": torch.arange(9).mul(17.0).sub(60).expand(2, 9).contiguous()}
    masks = {"SENTINEL2_TS": torch.ones(2, 9)}
    masks["SENTINEL2_TS"][1, 6:] = 0
    return inputs, days, masks


def logits_and_gradients(made: UPerFuse, names: tuple[str, ...]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    dtype = next(made.parameters()).dtype
    inputs, days, masks = ({name: each.to(dtype) for name, each in group.items()} for group in inputs_of(names))
    (logits,) = made(inputs, days, masks=masks).values()
    torch.manual_seed(5)
    parameters = dict(made.named_parameters())
    loss = (logits * torch.randn(logits.shape).to(dtype)).sum()
    gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    return logits.detach(), {
        name: gradient for name, gradient in zip(parameters, gradients, strict=True) if gradient is not None
    }


@pytest.mark.parametrize(
    "names",
    [("AERIAL_RGBI", "DEM_ELEV", "SPOT_RGBI", "SENTINEL2_TS"), ("AERIAL_RGBI", "SENTINEL2_TS")],
    ids=["all", "some absent"],
)
def test_kernels_give_the_maps_and_gradients_of_the_references(kernels, made, names):
    with measure() as launches:
        logits, gradients = logits_and_gradients(made, names)
    assert {launch.operation for launch in launches} >= EVERY_OPERATION
    with uperfuse_kernels.disable():
        expected, truth = logits_and_gradients(copy.deepcopy(made).double(), names)
    assert float((logits - expected).abs().max() / expected.abs().max()) < 1e-5
    assert bool((logits.argmax(1) == expected.argmax(1)).float().mean() > 0.9999)
    assert gradients.keys() == truth.keys()
    for name, gradient in gradients.items():
        # rectifiers close to zero switch with the last bit: plain PyTorch in float32 is off by as much
        error, scale = float((gradient - truth[name]).abs().max()), float(truth[name].abs().max())
        assert error < 1e-3 * scale + 1e-4, f"{name}: off by {error:.3g} of {scale:.3g}"


@pytest.mark.parametrize("case", ["lc-g_utae", "lc-h_utae", "lpis-i_swin-tiny"])
def test_golden_logits_through_the_kernels(kernels, shared, case):
    with measure() as launches:
        assert_logits(shared, case, network(shared, case))
    assert launches


def test_disabled_kernels_do_not_run(kernels, shared):
    with measure() as launches, uperfuse_kernels.disable():
        assert_logits(shared, "lc-g_utae", network(shared, "lc-g_utae"))
    assert not launches
