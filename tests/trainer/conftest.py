"""Small networks of every kind, and tiles for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from uperfuse.trainer.data import DataSet, simulate_data_set
from uperfuse.trainer.network import BackboneSpec, ImageSpec, NetworkSpec, SeriesSpec, TaskSpec, UPerFuse
from uperfuse.trainer.training import build as build_network
from uperfuse.trainer.training import read_config

PATCHES, SEED = 20, 3
SWIN = BackboneSpec("swin", (8, 16, 32, 64), (2, 2, 2, 2), (1, 2, 4, 8), (4, 4, 4, 4))
CONVNEXT = BackboneSpec("convnextv2", (8, 12, 20, 36), (1, 1, 2, 1))
TASKS = {"AERIAL_LABEL-COSIA": 5}
CHANNELS = {
    "AERIAL_RGBI": 3,
    "AERIAL-RLT_PAN": 1,
    "DEM_ELEV": 2,
    "SPOT_RGBI": 3,
    "SENTINEL2_TS": 10,
    "SENTINEL1-ASC_TS": 2,
    "SENTINEL1-DESC_TS": 2,
}
TILE_PX = {"AERIAL_RGBI": 64, "AERIAL-RLT_PAN": 32, "DEM_ELEV": 64, "SPOT_RGBI": 32}


def small_spec(
    *modalities: str, tasks: Mapping[str, int] = TASKS, backbone: BackboneSpec = SWIN, **settings: object
) -> NetworkSpec:
    """A network of well under a million parameters; modalities in FLAIR-HUB's order."""
    images = tuple(
        ImageSpec(name, CHANNELS[name], TILE_PX[name], backbone.fitted(TILE_PX[name]))
        for name in modalities
        if name in TILE_PX
    )
    widths = (8, 8, 16, 16) if images else (8, 16, 16)
    series = tuple(
        SeriesSpec(name, CHANNELS[name], widths, widths, 4, 3, 16, (8, sum(tasks.values())))
        for name in modalities
        if name not in TILE_PX
    )
    labels = tuple(TaskSpec(name, classes) for name, classes in tasks.items())
    settings = {"pyramid_channels": 16, "segmentation_channels": 12, "unet_channels": (24, 16, 12, 8, 6)} | settings
    return NetworkSpec(images=images, series=series, tasks=labels, **settings)


def build(spec: NetworkSpec, *, dtype: torch.dtype = torch.float64) -> UPerFuse:
    """A network whose every parameter and statistic is drawn, so that none of them is without effect."""
    torch.manual_seed(7)
    network = UPerFuse(spec)
    for module in network.modules():
        if isinstance(module, (nn.BatchNorm2d, nn.BatchNorm1d)):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    for name, parameter in network.named_parameters():
        if parameter.ndim == 1 or name.startswith("absent"):
            parameter.data.add_(0.2 * torch.randn_like(parameter))
    return network.to(dtype).eval()


@dataclass(frozen=True)
class Batch:
    """What `forward` takes."""

    inputs: dict[str, Tensor]
    days: dict[str, Tensor]
    masks: dict[str, Tensor]


def batch_for(
    spec: NetworkSpec, *, samples: int = 2, dates: int = 5, series_px: tuple[int, int] = (4, 3), seed: int = 0
) -> Batch:
    """Tiles that fit a network, in float64."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    inputs = {each.name: normal(samples, each.channels, each.tile_px, each.tile_px) for each in spec.images}
    days, masks = {}, {}
    for each in spec.series:
        inputs[each.name] = 1000 + 300 * normal(samples, dates, each.channels, *series_px)
        days[each.name] = torch.randint(-134, 231, (samples, dates), generator=generator).double()
        masks[each.name] = torch.ones(samples, dates, dtype=torch.bool)
    return Batch(inputs, days, masks)


@pytest.fixture(scope="session")
def spec_of() -> Callable[..., NetworkSpec]:
    return small_spec


@pytest.fixture(scope="session")
def network_of() -> Callable[..., UPerFuse]:
    return build


@pytest.fixture(scope="session")
def tiles_of() -> Callable[..., Batch]:
    return batch_for


@pytest.fixture(scope="session")
def convnext() -> BackboneSpec:
    return CONVNEXT


@pytest.fixture(scope="session")
def data_set(tmp_path_factory) -> DataSet:
    """Twenty patches, some of which lack sensors or a label."""
    return simulate_data_set(tmp_path_factory.mktemp("simulated") / "root", patches=PATCHES, seed=SEED)


@pytest.fixture(scope="session")
def modalities():
    """What the small network takes: all seven, and all but the aerial image may be absent."""
    return build_network(read_config("uperfuse-small")).modalities
