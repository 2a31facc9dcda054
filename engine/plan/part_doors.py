"""The doors of parts: what a manifest says that TensorRT takes and gives fits the plan, and one part the next.

Buffers are laid out from these doors, so that they are compared before anything is: with the segments that the parts
are made of, in the order in which kernels take them. Maps lie channels last.

    encoder:<IMAGE>    pixels -> level0, level1 ..
    encoder:<SERIES>   pixels, days, mask -> level0 ..
    spatial:<SERIES>   pixels, mask -> skip0 .., features
    temporal:<SERIES>  context, sum0 .. -> level0 ..
    decode:<TASK>      level0 .. -> logits
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from .network import Modality, Network, TensorSpec
from .payloads import Door, EnginePayload, Part

__all__ = ["check_part_doors"]

# types of maps between parts, by what products are computed in
_SHORT = {
    "float32": ("float32",),
    "fp16": ("float16",),
    "bf16": ("bfloat16",),
    "int8": ("float16", "bfloat16"),
    "fp8": ("float16", "bfloat16"),
}

_Shape = tuple[int | str, ...]


class _Expected(NamedTuple):
    name: str
    dtype: str
    shape: _Shape


def check_part_doors(network: Network, engine: EnginePayload) -> None:
    """Compare the doors of an engine payload with the plan's segments and with each other.

    Args:
        network: whose segments, modalities and tasks agree with each other.
        engine: one of its payloads, with the parts that it needs.

    Raises:
        ValueError: names the part, what it takes or gives, and what was expected.
    """
    short = engine.part(f"decode:{network.tasks[0].name}").inputs[0].dtype
    allowed = _SHORT[engine.precision]
    if short not in allowed:
        raise ValueError(
            f"{engine.target} of precision {engine.precision} has {short} maps, not {' or '.join(allowed)}"
        )
    for part in engine.parts:
        if part.role == "decode":
            segment = network.segment(part.name)
            inputs, outputs = _levels(segment.inputs, short), [*_as_listed(segment.outputs)]
        else:
            modality = network.modality(part.subject)
            levels = _levels(network.segment(f"encoder:{part.subject}").outputs, short)
            inputs, outputs = _taken(engine, part, modality, short), levels
            if part.role == "spatial":
                outputs = _given_by_spatial(part, short)
        _expect(engine, part, "takes", part.inputs, inputs)
        _expect(engine, part, "gives", part.outputs, outputs)


def _taken(engine: EnginePayload, part: Part, modality: Modality, short: str) -> list[_Expected]:
    """Inputs of a part of a modality's encoder."""
    shape = (len(modality.channels), modality.tile_px, modality.tile_px)
    if modality.kind == "image":
        return [_Expected("pixels", "float32" if modality.dtype == "float32" else short, ("B", *shape))]
    if part.role == "temporal":
        return _taken_by_temporal(engine.part(f"spatial:{modality.name}"), part, short)
    pixels, mask = _Expected("pixels", "float32", ("B", "T", *shape)), _Expected("mask", "float32", ("B", "T"))
    return [pixels, mask] if part.role == "spatial" else [pixels, _Expected("days", "float32", ("B", "T")), mask]


def _given_by_spatial(part: Part, short: str) -> list[_Expected]:
    """Maps of every date, whose number and sizes are the encoder's own."""
    names = [*(f"skip{place}" for place in range(len(part.outputs) - 1)), "features"]
    sizes = [door.shape[2:] if len(door.shape) == 5 else ("Y", "X", "C") for door in part.outputs]
    return [_Expected(name, short, ("B", "T", *size)) for name, size in zip(names, sizes, strict=True)]


def _taken_by_temporal(spatial: Part, part: Part, short: str) -> list[_Expected]:
    """What the kernels make of the other side's maps: all but the context as large as they are, without dates."""
    *skips, features = (door.shape[2:] for door in spatial.outputs)
    context = part.inputs[0].shape
    width: int | str = context[-1] if len(context) == 4 else "D"
    sums = [_Expected(f"sum{place}", short, ("B", *size)) for place, size in enumerate(skips)]
    return [_Expected("context", short, ("B", *features[:2], width)), *sums]


def _levels(specs: Iterable[TensorSpec], short: str) -> list[_Expected]:
    """Maps of a segment, which gives and takes channels first, as the parts have them."""
    return [_Expected(spec.name, short, (*spec.shape[:1], *spec.shape[2:], *spec.shape[1:2])) for spec in specs]


def _as_listed(specs: Iterable[TensorSpec]) -> list[_Expected]:
    return [_Expected(spec.name, spec.dtype, spec.shape) for spec in specs]


def _expect(engine: EnginePayload, part: Part, verb: str, got: Sequence[Door], expected: Sequence[_Expected]) -> None:
    doors = [_Expected(door.name, door.dtype, door.shape) for door in got]
    if doors != list(expected):
        raise ValueError(f"{part.name} of {engine.target} {verb} {_words(doors)}, expected {_words(expected)}")


def _words(doors: Sequence[_Expected]) -> str:
    return ", ".join(f"{name} {dtype} [{', '.join(map(str, shape))}]" for name, dtype, shape in doors)
