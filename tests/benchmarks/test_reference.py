"""The entry point for FLAIR-HUB's own code, as far as it goes without that code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks.networks import LC_L, TASK, random_network, spec_of
from benchmarks.published import AUTHORS_WAY, check_peer
from benchmarks.reference.checkout import model_config, open_checkout
from benchmarks.reference.zonal import zonal_config
from benchmarks.zonal import SHIPPED
from tests.conftest import ROOT
from uperfuse.engine.errors import CheckpointError

SWIN_TINY = "swin_tiny_patch4_window7_224"

MODEL = """
import torch
from torch import nn


class FLAIR_HUB_Model(nn.Module):
    # the weights of ours under their own names, and logits that are the mean of the pixels
    def __init__(self, config, img_input_sizes):
        super().__init__()
        print("a table that nobody asked for")
        self.config, self.sizes = config, img_input_sizes
        self.scale = nn.Parameter(torch.zeros(2))

    def forward(self, batch):
        (task,) = self.config["labels"]
        assert batch[task].shape[-1] == batch["AERIAL_RGBI"].shape[-1]
        return {task: batch["AERIAL_RGBI"] * self.scale[0]}, {}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    """A checkout that holds a model of its kind."""
    models = tmp_path / "src" / "flair_hub" / "models"
    models.mkdir(parents=True)
    (models / "flair_model.py").write_text(MODEL)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in [name for name in sys.modules if name.startswith("flair_hub")]:
        monkeypatch.delitem(sys.modules, name)
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("flair_hub")]:
        del sys.modules[name]


class _Scale(nn.Module):
    """A network of one weight."""

    def __init__(self, spec) -> None:
        super().__init__()
        self.spec = spec
        self.scale = nn.Parameter(torch.tensor([3.0, 5.0]))


def test_a_folder_without_the_model_is_refused(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.reference", "--reference", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "expected a checkout of https://github.com/IGNF/FLAIR-HUB; clone it" in done.stderr
    assert "Traceback" not in done.stderr


def test_its_model_gets_our_weights_and_a_label_for_its_size(folder: Path, capsys) -> None:
    checkout = open_checkout(folder)
    assert not checkout.has_zonal_tool
    forward = checkout.peer.build(_Scale(spec_of("AERIAL_RGBI", encoder=SWIN_TINY)))
    pixels = torch.rand(1, 3, 8, 8)
    torch.testing.assert_close(forward({"AERIAL_RGBI": pixels}, {})[TASK], 3 * pixels)
    assert capsys.readouterr().out == "", "what it prints is not ours to show"


def test_a_model_of_other_weights_is_refused(folder: Path) -> None:
    network = random_network(spec_of("AERIAL_RGBI", encoder=SWIN_TINY))
    with pytest.raises(CheckpointError, match="takes other weights than ours"):
        open_checkout(folder).model_of(network)


def test_a_package_that_is_missing_is_named(folder: Path) -> None:
    path = folder / "src" / "flair_hub" / "models" / "flair_model.py"
    path.write_text("import package_of_nobody\n")
    with pytest.raises(RuntimeError, match="needs package_of_nobody, which is not installed"):
        open_checkout(folder).peer.build(_Scale(spec_of("AERIAL_RGBI", encoder=SWIN_TINY)))


def test_the_configuration_says_what_the_network_is() -> None:
    config = model_config(spec_of(*LC_L))
    assert config["models"]["monotemp_model"]["arch"] == "swin_base_patch4_window12_384-upernet"
    assert [name for name, used in config["modalities"]["inputs"].items() if used] == list(LC_L)
    assert {name: len(each) for name, each in config["modalities"]["inputs_channels"].items()} == {
        "AERIAL_RGBI": 3,
        "DEM_ELEV": 2,
        "SPOT_RGBI": 3,
        "SENTINEL2_TS": 10,
        "SENTINEL1-ASC_TS": 2,
        "SENTINEL1-DESC_TS": 2,
    }
    assert config["models"]["multitemp_model"]["encoder_widths"] == [64, 64, 128, 128]
    assert len(config["labels_configs"][TASK]["value_name"]) == 19


def test_the_zonal_tool_is_told_of_bands_by_name(tmp_path: Path) -> None:
    network = random_network(spec_of("AERIAL_RGBI", encoder=SWIN_TINY))
    paths = {name: tmp_path / name for name in ("raster", "out", "weights")}
    config = zonal_config(network, squares=SHIPPED, **paths)
    assert (config["img_pixels_detection"], config["margin"]) == (2048, 512)
    assert config["monotemp_arch"] == f"{SWIN_TINY}-upernet"
    # NIR, R, G
    normalisation = config["modalities"]["AERIAL_RGBI"]["normalization"]
    assert normalisation["means"] == [106.59, 105.66, 111.35]
    assert normalisation["stds"] == [39.78, 52.23, 45.62]


def test_another_network_is_not_timed() -> None:
    network = random_network(spec_of("SENTINEL2_TS"))
    given = {"SENTINEL2_TS": torch.rand(1, 3, 10, 10, 10)}, {"SENTINEL2_TS": torch.zeros(1, 3)}
    right = AUTHORS_WAY.build(network)
    check_peer(right, network, given)
    with pytest.raises(AssertionError, match="not the same network"):
        check_peer(lambda *given: {task: 1.01 * each for task, each in right(*given).items()}, network, given)
