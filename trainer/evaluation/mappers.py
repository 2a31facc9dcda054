"""From a file to what maps patches: weights in PyTorch, or a plan on a back end."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from ...engine.errors import CheckpointError
from ...engine.flairhub import MODALITIES
from ...engine.plan.network import Modality
from ..description import ExportConfig
from .mapper import Mapper
from .plan_mapper import PlanMapper
from .weights_mapper import WeightsMapper

__all__ = ["keep", "open_mapper"]


def open_mapper(
    model: Path, *, config: ExportConfig | None, device: str, precision: str, say: Callable[[str], None]
) -> Mapper:
    """Load a checkpoint or a plan.

    Args:
        model: a `.safetensors` file or a plan.
        config: what a checkpoint does not say of itself, as for an export; of a plan, what its labels are.
        device: "auto", "cpu", "cuda" or "cuda:1".
        precision: of a plan, as `Engine.load` takes it; weights in PyTorch run in float32.
        say: where lines go that the user should read.

    Raises:
        CheckpointError: the file is neither, or does not make a network.
        PlanError: the plan breaks a rule of the format.
        BackendError: the device or the precision cannot serve.
    """
    if model.is_dir():
        raise CheckpointError(f"{model} is a folder; give a .safetensors file or a plan")
    kind = _kind(model)
    if kind == "plan":
        if config is not None and config.modalities:
            raise CheckpointError(
                f"{model} is a plan, which says itself what its modalities are; keep nothing but tasks in the YAML file"
            )
        return PlanMapper.open(model, device=device, precision=precision)
    return WeightsMapper.open(model, config=config, device=device, say=say)


def keep(
    modalities: Mapping[str, Modality], *, absent: Collection[str], name: str, say: Callable[[str], None]
) -> dict[str, Modality]:
    """Modalities of a network that remain when some are left out.

    Raises:
        CheckpointError: there is no such modality, the network cannot do without it, or nothing would remain.
    """
    may = [each.name for each in modalities.values() if each.may_be_absent]
    for lost in absent:
        if lost not in MODALITIES:
            raise CheckpointError(f"there is no modality {lost}, expected some of {', '.join(MODALITIES)} to leave out")
        if lost not in modalities:
            say(f"{name} does not take {lost}, so nothing of it is left out")
        elif lost not in may:
            advice = f"leave out some of {', '.join(may)}" if may else "it needs all of its modalities"
            raise CheckpointError(f"{name} never learnt to do without {lost}; {advice}")
    kept = {key: modality for key, modality in modalities.items() if key not in absent}
    if not kept:
        raise CheckpointError(f"all modalities of {name} are left out ({', '.join(modalities)}); keep at least one")
    return kept


def _kind(model: Path) -> str:
    """By the first bytes: a plan is a ZIP archive, a checkpoint begins with the length of its header in JSON."""
    with model.open("rb") as file:
        head = file.read(9)
    if head[:2] == b"PK":
        return "plan"
    if len(head) == 9 and head[8:9] == b"{":
        return "checkpoint"
    raise CheckpointError(
        f"{model} is neither a checkpoint (.safetensors) nor a plan; give one that training or `uperfuse export` wrote"
    )
