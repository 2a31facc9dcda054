"""Eight patches that lack different things, and a small network with random weights, as a checkpoint and as a plan."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import rasterio
import torch
from torch import nn

from tests.plan_cache import cached_plan
from uperfuse.engine.flairhub import TASKS
from uperfuse.trainer.checkpoint import save_checkpoint
from uperfuse.trainer.data import DataSet, Patch, simulate_data_set
from uperfuse.trainer.data.splits import write_split
from uperfuse.trainer.description import ExportConfig
from uperfuse.trainer.evaluation import evaluate
from uperfuse.trainer.export import export_checkpoint
from uperfuse.trainer.network import BackboneSpec, ImageSpec, NetworkSpec, SeriesSpec, TaskSpec, UPerFuse

VOID_ROWS, VOID_COLUMNS = 100, 170
BACKBONE = BackboneSpec("convnextv2", (8, 12, 16, 20), (1, 1, 1, 1))


@dataclass(frozen=True)
class Patchwork:
    """A data set of one split, "test".

    Attributes:
        root: its folder.
        unlabelled: a patch without labels of crops.
        blind: one without a SPOT image.
        snowed: one whose Sentinel-2 series has no clear date.
        torn: one with a void corner in its aerial image.
    """

    root: Path
    unlabelled: Patch
    blind: Patch
    snowed: Patch
    torn: Patch

    @property
    def patches(self) -> tuple[Patch, ...]:
        return DataSet.open(self.root).split("test").patches


def without(patch: Patch, product: str) -> Patch:
    return replace(patch, folders={name: folder for name, folder in patch.folders.items() if name != product})


def rewrite(path: Path, change, **profile) -> None:
    with rasterio.open(path) as dataset:
        values, kept = dataset.read(), dict(dataset.profile)
    change(values)
    path.unlink()
    with rasterio.open(path, "w", **kept | profile) as dataset:
        dataset.write(values)


def snow(values) -> None:
    values[...] = 100


def tear(values) -> None:
    values[values == 0] = 1
    values[:, :VOID_ROWS, -VOID_COLUMNS:] = 0


@pytest.fixture(scope="session")
def patchwork(tmp_path_factory) -> Patchwork:
    root = tmp_path_factory.mktemp("simulated") / "root"
    made = simulate_data_set(root, patches=8, seed=5)
    patches = [patch for split in made.splits.values() for patch in split.patches]
    assert len({patch.id.domain for patch in patches}) > 1
    for split in made.splits.values():
        split.file.unlink()
    whole = [patch for patch in patches if len(patch.folders) == 10]
    unlabelled, blind, snowed, torn = without(whole[0], "ALL_LABEL-LPIS"), without(whole[1], "SPOT_RGBI"), *whole[2:4]
    rewrite(root / snowed.files["SENTINEL2_MSK-SC"], snow)
    rewrite(root / torn.files["AERIAL_RGBI"], tear, nodata=0)
    changed = {patch.id: patch for patch in (unlabelled, blind)}
    write_split(root / "FLAIR-HUB_TEST.csv", tuple(changed.get(patch.id, patch) for patch in patches))
    return Patchwork(root, unlabelled, blind, snowed, torn)


def spec_of(*absent: str) -> NetworkSpec:
    """A network of four sensors and both tasks."""
    classes = {name: len(entries) for name, entries in TASKS.items()}
    channels = {"AERIAL_RGBI": (4, 512), "DEM_ELEV": (2, 512), "SPOT_RGBI": (4, 64)}
    series = SeriesSpec("SENTINEL2_TS", 10, *[(8, 8, 8, 8)] * 2, heads=4, d_key=2, d_model=8, out_widths=(8, 42))
    return NetworkSpec(
        tuple(ImageSpec(name, bands, px, BACKBONE) for name, (bands, px) in channels.items()),
        (series,),
        tuple(TaskSpec(name, count) for name, count in classes.items()),
        pyramid_channels=8,
        segmentation_channels=8,
        absent=absent,
    )


def drawn(spec: NetworkSpec) -> UPerFuse:
    """Weights that map many classes."""
    torch.manual_seed(2)
    network = UPerFuse(spec)
    for name, module in network.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
        if name.startswith("main_decoders") and isinstance(module, nn.Conv2d):
            module.weight.data.mul_(2)
    for level in network.absent.parameters():
        level.data.normal_()
    return network.eval()


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    said = ExportConfig.model_validate({"modalities": {"DEM_ELEV": {"statistics": {"HEIGHT": [2.0, 4.0]}}}})
    save_checkpoint(drawn(spec_of("DEM_ELEV", "SPOT_RGBI", "SENTINEL2_TS")), path, said=said)
    return path


@pytest.fixture(scope="session")
def plan(checkpoint) -> Path:
    made_from = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    return cached_plan("evaluated", lambda path: export_checkpoint(checkpoint, out=path), made_from=made_from)


@pytest.fixture(scope="session")
def of_weights(checkpoint, patchwork):
    return evaluate(checkpoint, patchwork.root, examples=8)


@pytest.fixture(scope="session")
def of_plan(plan, patchwork):
    return evaluate(plan, patchwork.root, precision="float32", examples=8)
