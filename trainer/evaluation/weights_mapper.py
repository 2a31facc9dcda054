"""Weights in PyTorch, in float32, prepared for as the engine prepares."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import torch

from ...engine.classify import nearest
from ...engine.errors import BackendError
from ...engine.plan.network import Modality, Task
from ...engine.prediction import VOID
from ..checkpoint import load_checkpoint
from ..data import Sample, collate, prepare_sample
from ..data.layout import LABEL_PX, PRODUCTS
from ..description import DescribedNetwork, ExportConfig, TaskConfig, describe_network
from ..network import UPerFuse
from .cost import Cost, cost_of_network
from .mapper import Labels

__all__ = ["WeightsMapper"]


class WeightsMapper:
    """A network with its weights; see `Mapper`."""

    kind = "checkpoint"

    def __init__(
        self,
        network: UPerFuse,
        described: DescribedNetwork,
        *,
        name: str,
        said: ExportConfig,
        device: torch.device,
    ) -> None:
        self._network = network.eval().to(device)
        self._device = device
        self.name = name
        self.modalities: Mapping[str, Modality] = {each.name: each for each in described.modalities}
        self.tasks: Sequence[Task] = described.tasks
        self.said: Mapping[str, TaskConfig] = said.tasks
        self.runs = f"PyTorch on {device}, float32"

    @classmethod
    def open(cls, path: Path, *, config: ExportConfig | None, device: str, say: Callable[[str], None]) -> WeightsMapper:
        """Read a checkpoint; what it says of itself, or `config` in its place, tells bands, statistics and classes.

        Raises:
            CheckpointError: as `load_checkpoint` and `describe_network`.
            BackendError: there is no such device.
        """
        where = _device(device)
        sizes = (
            None if config is None else {m: words.tile_px for m, words in config.modalities.items() if words.tile_px}
        )
        loaded = load_checkpoint(path, tile_px=sizes)
        for note in loaded.notes:
            say(note)
        said = loaded.said if config is None else config
        name = said.name or path.stem
        tiles_px = {modality: PRODUCTS[modality].px for modality in loaded.network.spec.modalities}
        described = describe_network(loaded.network.spec, name=name, said=said, tiles_px=tiles_px, say=say)
        return cls(loaded.network, described, name=name, said=said, device=where)

    @cached_property
    def cost(self) -> Cost:
        """Weights and operations, counted when they are asked for: it takes as long as mapping some patches."""
        counted = cost_of_network(self._network.cpu(), tiles_px={name: PRODUCTS[name].px for name in self.modalities})
        self._network.to(self._device)
        return counted

    def map(self, samples: Sequence[Sample]) -> Labels:
        """Map some patches."""
        batch = collate([prepare_sample(sample, self.modalities) for sample in samples]).to(self._device)
        base = next(iter(self.modalities))
        side = PRODUCTS[base].px
        with torch.inference_mode():
            logits = self._network(
                batch.inputs,
                batch.days,
                batch.masks,
                present=batch.present,
                base_px=(side, side),
                output_px=(LABEL_PX, LABEL_PX),
            )
            labels = {task.name: logits.pop(task.name).argmax(1).byte().cpu().numpy() for task in self.tasks}
        for place, sample in enumerate(samples):
            if base in sample.images and sample.images[base].void.any():
                unseen = nearest(sample.images[base].void[0], LABEL_PX)
                for maps in labels.values():
                    maps[place][unseen] = VOID
        return labels

    def close(self) -> None:
        """Nothing is held that does not go by itself."""


def _device(asked: str) -> torch.device:
    if asked == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(asked)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise BackendError(f"PyTorch cannot run on {asked!r} ({reason}); choose auto, cpu or another") from error
    return device
