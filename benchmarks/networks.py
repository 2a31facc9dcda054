"""The networks that benchmarks speak of, FLAIR-HUB's with Swin-B and UPerNet, and plans of them with random weights."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from uperfuse.engine.flairhub import MODALITIES
from uperfuse.engine.plan.network import Provenance
from uperfuse.trainer.export import ExportConfig, export_network
from uperfuse.trainer.network import BackboneSpec, NetworkSpec, UPerFuse

__all__ = ["DATES", "LC_L", "NETWORKS", "SWIN_BASE", "TASK", "TINY", "plan_of", "random_network", "spec_of"]

DATES = 61
"""Of every series."""

TASK = "AERIAL_LABEL-COSIA"

SWIN_BASE = "swin_base_patch4_window12_384"

TINY = BackboneSpec("convnextv2", (16, 24, 32, 40), (1, 1, 1, 1))
"""Of no use but to prove that a program runs."""

_RADAR = ("SENTINEL1-ASC_TS", "SENTINEL1-DESC_TS")

LC_L = ("AERIAL_RGBI", "DEM_ELEV", "SPOT_RGBI", "SENTINEL2_TS", *_RADAR)
"""All modalities but the historical photographs."""


def spec_of(*names: str, encoder: str | BackboneSpec = SWIN_BASE) -> NetworkSpec:
    """A network for land cover from some modalities, as FLAIR-HUB builds it."""
    return NetworkSpec.flairhub(
        modalities={name: (len(MODALITIES[name].usual), MODALITIES[name].tile_px) for name in names},
        tasks={TASK: 19},
        encoder=encoder,
    )


NETWORKS = {
    "LC-F": spec_of("AERIAL_RGBI", "SENTINEL2_TS", *_RADAR),
    "LC-L": spec_of(*LC_L),
}
"""For an aerial tile of 512 px, and what lies on the same ground."""


def random_network(spec: NetworkSpec) -> UPerFuse:
    """A network with random weights: they decide neither time nor memory."""
    torch.manual_seed(0)
    return UPerFuse(spec).eval()


@contextmanager
def plan_of(network: UPerFuse, *, tile_px: int | Sequence[int] | None = None) -> Iterator[Path]:
    """A plan of a network, as long as the `with` lasts; its export compares it with PyTorch.

    Args:
        network: with its weights.
        tile_px: side of a tile of the first image, or several; None: as the data set has it.
    """
    bands = {image.name: {"bands": MODALITIES[image.name].usual} for image in network.spec.images}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "random.plan"
        provenance = Provenance(checkpoint="random", checkpoint_sha256="0" * 64, created="today", tools={})
        said = ExportConfig.model_validate({"modalities": bands})
        export_network(network, out=out, name="random", provenance=provenance, said=said, tile_px=tile_px)
        yield out
