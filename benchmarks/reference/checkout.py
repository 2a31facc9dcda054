"""A checkout of https://github.com/IGNF/FLAIR-HUB: what is in it, and its model with our weights.

What is relied on: `src/flair_hub/models/flair_model.py` has `FLAIR_HUB_Model(config, img_input_sizes)`, which takes a
batch of modalities, `<SENSOR>_DATES`, and a label tensor of every task for its size, and returns logits by task first.
"""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import timm
import torch
from torch import Tensor, nn

from uperfuse.engine.errors import CheckpointError
from uperfuse.engine.flairhub import MODALITIES, dates_key
from uperfuse.trainer.network import BACKBONES, NetworkSpec, UPerFuse

from ..published import Forward, Peer

__all__ = ["Checkout", "open_checkout"]

_MODEL, _ZONAL = "flair_hub/models/flair_model.py", "flair_zonal_detection/inference.py"
_NAME = "FLAIR-HUB's code, PyTorch eager float32"


@dataclass(frozen=True)
class Checkout:
    """A checkout whose model is there.

    Attributes:
        source: its folder `src`, from which it imports.
    """

    source: Path

    @property
    def has_zonal_tool(self) -> bool:
        """Whether it can map rasters."""
        return (self.source / _ZONAL).is_file()

    def module(self, name: str) -> ModuleType:
        """One of its modules.

        Raises:
            RuntimeError: it needs a package that is not installed.
        """
        if str(self.source) not in sys.path:
            sys.path.insert(0, str(self.source))
        try:
            return import_module(name)
        except ModuleNotFoundError as error:
            raise RuntimeError(
                f"{name} of {self.source} needs {error.name}, which is not installed; install what it asks for"
            ) from error

    @property
    def peer(self) -> Peer:
        """Its model, as the other side of a benchmark."""
        return Peer(_NAME, self.forward_of)

    def model_of(self, network: UPerFuse) -> nn.Module:
        """Its model with every weight of `network`.

        Raises:
            CheckpointError: a weight is missing, extra or of another shape: it is not the same network.
        """
        spec = network.spec
        sizes = {name: MODALITIES[name].tile_px for name in spec.modalities}
        sizes |= {image.name: image.tile_px for image in spec.images}
        maker = self.module("flair_hub.models.flair_model").FLAIR_HUB_Model
        with quiet(), without_downloads():
            model: nn.Module = maker(model_config(spec), sizes)
        try:
            model.load_state_dict(network.state_dict(), strict=True)
        except RuntimeError as error:
            raise CheckpointError(f"the checkout's model takes other weights than ours: {error}") from error
        return model.eval()

    def forward_of(self, network: UPerFuse) -> Forward:
        """Its model, called as ours is; series alone give their scores, before they are enlarged."""
        model: Any = self.model_of(network)
        tasks, images = [task.name for task in network.spec.tasks], network.spec.images

        def forward(inputs: Mapping[str, Tensor], days: Mapping[str, Tensor]) -> dict[str, Tensor]:
            if not images:
                (name,) = inputs
                scores, _ = model.encoders[name](inputs[name], batch_positions=days[name])
                return dict.fromkeys(tasks, scores)
            batch = {**inputs, **{dates_key(name): values for name, values in days.items()}}
            base = inputs[images[0].name]
            found: dict[str, Tensor] = model(batch | dict.fromkeys(tasks, base[:, :1]))[0]
            return found

        return forward


def open_checkout(folder: Path) -> Checkout:
    """Look whether a folder is a checkout.

    Raises:
        FileNotFoundError: its model is not where it should be.
    """
    source = folder / "src"
    if not (source / _MODEL).is_file():
        raise FileNotFoundError(
            f"{folder} holds no src/{_MODEL}, expected a checkout of https://github.com/IGNF/FLAIR-HUB; clone it"
        )
    return Checkout(source.resolve())


def model_config(spec: NetworkSpec) -> dict[str, Any]:
    """The configuration from which the checkout's model makes the network of `spec`."""
    backbone = next((name for name, each in BACKBONES.items() if each in {i.backbone for i in spec.images}), "none")
    enabled = {name: name in spec.modalities for name in MODALITIES}
    channels = {image.name: list(range(1, image.channels + 1)) for image in spec.images}
    channels |= {series.name: list(range(1, series.channels + 1)) for series in spec.series}
    first = spec.series[0] if spec.series else None
    return {
        "labels": [task.name for task in spec.tasks],
        "labels_configs": {task.name: {"value_name": dict.fromkeys(range(task.classes), "")} for task in spec.tasks},
        "modalities": {
            "inputs": enabled,
            "inputs_channels": channels,
            "aux_loss": dict.fromkeys(MODALITIES, False),
            "pre_processings": {"calc_elevation": True, "calc_elevation_stack_dsm": True},
        },
        "models": {
            "monotemp_model": {"arch": f"{backbone}-{spec.decoder}", "new_channels_init_mode": "random"},
            "multitemp_model": {
                "encoder_widths": list(first.encoder_widths) if first else [64, 64, 64, 128],
                "decoder_widths": list(first.decoder_widths) if first else [32, 32, 64, 128],
                "out_conv": list(first.out_widths) if first else [32, 19],
                "str_conv_k": 3,
                "str_conv_s": 1,
                "str_conv_p": 1,
                "agg_mode": "att_group",
                "encoder_norm": "group",
                "n_head": 16,
                "d_model": 256,
                "d_k": 4,
                "pad_value": 0,
                "padding_mode": "reflect",
            },
        },
    }


@contextlib.contextmanager
def without_downloads() -> Iterator[None]:
    """Build backbones without fetching weights that are replaced at once."""
    create = timm.create_model

    def untrained(*args: Any, **keywords: Any) -> Any:
        return create(*args, **{**keywords, "pretrained": False})

    with patch.object(timm, "create_model", untrained):
        yield


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what the checkout prints away from the results."""
    with contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
        yield
