"""Checkpoints: published weights in, every key accounted for both ways, and the same names out."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..engine.errors import CheckpointError
from .description import DescribedNetwork, ExportConfig, describe_network, tile_sides
from .network import NetworkSpec, UPerFuse
from .network.reading import read_spec

__all__ = ["LoadedCheckpoint", "load_checkpoint", "read_spec", "save_checkpoint"]

PREFIX = "model."
"""Every key of a published checkpoint begins with it."""

_IGNORED = "criterion."
_SAID = "uperfuse"
"""Key of a file's metadata under which it says what its keys and shapes cannot tell."""


@dataclass(frozen=True)
class LoadedCheckpoint:
    """What a file holds.

    Attributes:
        network: with its weights, in inference mode.
        notes: a line for whatever was not taken as it stands.
        said: what the file says of bands, statistics, tiles and classes; nothing in published ones.
    """

    network: UPerFuse
    notes: tuple[str, ...]
    said: ExportConfig = field(default_factory=ExportConfig)

    def describe(self, stem: str, *, said: ExportConfig | None = None) -> DescribedNetwork:
        """What the network takes and gives, at the tiles that it was trained with.

        Args:
            stem: of the file's name, which of published ones tells the bands.
            said: in place of what the file says of itself.

        Raises:
            CheckpointError: as `describe_network`.
        """
        words, spec = said or self.said, self.network.spec
        tiles_px = tile_sides(spec, said=words.modalities, tile_px=None)
        return describe_network(spec, name=words.name or stem, said=words, tiles_px=tiles_px)


def load_checkpoint(path: str | Path, *, tile_px: Mapping[str, int] | None = None) -> LoadedCheckpoint:
    """Read a `.safetensors` file and build the network it belongs to.

    Keys may stand behind `model.` or without it. The weights of a loss, `criterion.*`, are left out, with a note.

    Args:
        path: the file.
        tile_px: image modality -> tile side in pixels; what the file says, or FLAIR-HUB's, where left out.

    Raises:
        CheckpointError: the file cannot be read, or a key is missing, extra, wrongly shaped or not finite; each of
            them is listed.
    """
    weights, notes, said = _read(Path(path))
    if tile_px is None:
        tile_px = {name: words.tile_px for name, words in said.modalities.items() if words.tile_px is not None}
    shapes = {key: tuple(value.shape) for key, value in weights.items()}
    spec = read_spec(shapes, tile_px=tile_px)
    faults = _faults(weights, expected=_blueprint(spec))
    if faults:
        listed = "\n  ".join(faults)
        raise CheckpointError(f"{path} does not fit the network it describes; mend {len(faults)} keys:\n  {listed}")
    network = UPerFuse(spec)
    network.load_state_dict(weights, strict=True)
    return LoadedCheckpoint(network.eval(), notes, said)


def _blueprint(spec: NetworkSpec) -> dict[str, Tensor]:
    """Parameters of a network without memory for them, so that nonsense costs nothing."""
    try:
        with torch.device("meta"):
            return UPerFuse(spec).state_dict()
    except (ArithmeticError, AssertionError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(f"shapes describe a network that cannot be built ({error}); mend {spec}") from error


def _faults(weights: Mapping[str, Tensor], *, expected: Mapping[str, Tensor]) -> list[str]:
    """Every key that is missing, extra, wrongly shaped, of another kind of number, or not finite."""
    faults = [f"{key} is missing, expected {list(expected[key].shape)}" for key in expected if key not in weights]
    for key, value in weights.items():
        if key not in expected:
            faults.append(f"{key} is extra, got {list(value.shape)}")
        elif value.shape != expected[key].shape:
            faults.append(f"{key} has shape {list(value.shape)}, expected {list(expected[key].shape)}")
        elif value.is_floating_point() != expected[key].is_floating_point():
            faults.append(f"{key} holds {value.dtype}, expected {expected[key].dtype}")
        elif not bool(torch.isfinite(value).all()):
            faults.append(f"{key} holds values that are not finite, expected numbers")
    return faults


def save_checkpoint(network: UPerFuse, path: str | Path, *, said: ExportConfig | None = None) -> None:
    """Write a network's weights under the names of the published checkpoints, replacing the file when complete.

    Args:
        network: anything that `load_checkpoint` should return.
        path: a `.safetensors` file.
        said: what keys and shapes cannot tell; an export of the file needs no other words then.
    """
    path = Path(path)
    weights = {PREFIX + key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
    partial = path.with_name(f"{path.name}.partial")
    metadata = {"format": "pt"}
    if said is not None:
        metadata[_SAID] = said.model_dump_json(exclude_unset=True)
    save_file(weights, str(partial), metadata=metadata)
    partial.chmod(_readable())
    os.replace(partial, path)


def _readable() -> int:
    """The mode of a file that anybody writes: safetensors' own is for the owner alone."""
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def _read(path: Path) -> tuple[dict[str, Tensor], tuple[str, ...], ExportConfig]:
    """Weights without prefix and without the loss, what was done to them, and what the file says of itself."""
    weights: dict[str, Tensor] = {}
    said = ExportConfig()
    ignored, cast = [], []
    try:
        with safe_open(str(path), framework="pt") as file:
            words = (file.metadata() or {}).get(_SAID)
            if words is not None:
                said = ExportConfig.model_validate_json(words)
            for key in file.keys():  # noqa: SIM118 - not a mapping
                name = key.removeprefix(PREFIX)
                if name.startswith(_IGNORED):
                    ignored.append(key)
                    continue
                if name in weights:
                    raise CheckpointError(f"{path} holds {name} with and without {PREFIX}; keep one of them")
                weights[name] = file.get_tensor(key)
                if weights[name].dtype in {torch.float16, torch.bfloat16, torch.float64}:
                    cast.append(key)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read as safetensors ({error}); give a complete file") from error
    except ValidationError as error:
        raise CheckpointError(
            f"{path} says things of itself that this version does not know ({error.error_count()} faults); "
            "use the version that wrote it, or a newer one"
        ) from error
    notes = []
    if ignored:
        notes.append(f"left out {len(ignored)} keys of the loss: {', '.join(ignored)}")
    if cast:
        notes.append(f"read {len(cast)} tensors as float32 that the file stores in another precision")
    return weights, tuple(notes), said
