"""Which compiled kernel a step needs: decided here alone, for launches from PyTorch, for builds and for back ends.

A request names a kernel and what of its form follows from its inputs. How that form is cut for an architecture is the
matter of whoever compiles it, and stands in the launch record.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .numbers import classify_block, classify_room, resize_steps
from .record import LaunchRecord

__all__ = [
    "AGGREGATED_MAPS",
    "ATTENTION_DATES",
    "KernelRequest",
    "aggregate_request",
    "attention_request",
    "classify_request",
    "fusion_request",
    "prepare_request",
    "variant_name",
]

ATTENTION_DATES = 64
"""Dates that `temporal_attention` holds at a time: a series of that many or fewer is read once."""
AGGREGATED_MAPS = 4
"""Maps that one launch of `temporal_aggregate` sums; one that is not there has no channels."""
_ROW = 16
"""Rows of so many elements, or multiples of it, begin at addresses from which a thread loads 128 bits at once."""


def variant_name(types: Mapping[str, str], constants: Mapping[str, int]) -> str:
    """Name of a kernel's form: short, and unique among those of a kernel.

    Args:
        types: type names of the declaration -> dtypes, in its order.
        constants: compile-time constants that follow from inputs, in the order of the declaration.

    Example:
        >>> variant_name({"T": "bf16"}, {"C": 128, "C0": 64})
        'bf16_C128_C0-64'
    """
    # C0 = 128 is C0-128, not C0128
    joined = (f"{name}-{value}" if name[-1].isdigit() else f"{name}{value}" for name, value in constants.items())
    return "_".join([*types.values(), *joined])


@dataclass(frozen=True)
class KernelRequest:
    """One form of one kernel.

    Attributes:
        kernel: its name.
        types: type names of its declaration -> dtypes, by Triton's names.
        constants: compile-time constants that follow from inputs.
    """

    kernel: str
    types: Mapping[str, str]
    constants: Mapping[str, int]

    @property
    def variant(self) -> str:
        """Name of the form, as launch records and files have it."""
        return variant_name(self.types, self.constants)

    def matches(self, record: LaunchRecord) -> bool:
        """Whether a compiled kernel is the one that is asked for."""
        return (record.kernel, record.types, record.constants) == (self.kernel, self.types, self.constants)

    def __hash__(self) -> int:
        return hash((self.kernel, frozenset(self.types.items()), frozenset(self.constants.items())))

    def __str__(self) -> str:
        return f"{self.kernel}.{self.variant}"


def attention_request(
    *, heads: int, channels: int, embedding: int, dtype: str, dates: int, dropout: bool = False
) -> KernelRequest:
    """The kernel `temporal_attention`.

    Args:
        heads: H.
        channels: C of the features.
        embedding: D, channels of the context.
        dtype: of features, context and attention, by Triton's names.
        dates: T, padding included.
        dropout: whether weights are dropped, as in training.
    """
    constants = {"H": heads, "C": channels, "D": embedding}
    constants |= {"ONE_PASS": int(dates <= ATTENTION_DATES), "DROPOUT": int(dropout)}
    return KernelRequest("temporal_attention", {"T": dtype}, constants)


def aggregate_request(*, heads: int, channels: Sequence[int], dtype: str, resized: bool = False) -> KernelRequest:
    """The kernel `temporal_aggregate`.

    Args:
        heads: H of the attention.
        channels: of each map, in launch order; one to `AGGREGATED_MAPS` of them.
        dtype: of maps and attention, by Triton's names.
        resized: whether a map's size is not the attention's.
    """
    assert 1 <= len(channels) <= AGGREGATED_MAPS, f"one launch sums up to {AGGREGATED_MAPS} maps, not {len(channels)}"
    places = [*channels, *[0] * (AGGREGATED_MAPS - len(channels))]
    constants = {"H": heads, **{f"C{place}": each for place, each in enumerate(places)}, "RESIZED": int(resized)}
    return KernelRequest("temporal_aggregate", {"T": dtype}, constants)


def fusion_request(*, channels: int, dtype: str, base_channels: int | None = None) -> KernelRequest:
    """The kernel `pyramid_fusion`.

    Args:
        channels: of the sum.
        dtype: of all maps, by Triton's names.
        base_channels: of the map that is projected on the way; None where all maps are projected already.
    """
    aligned = channels % _ROW == 0 and (base_channels or 0) % _ROW == 0
    constants = {"BASE": int(base_channels is not None), "ALIGNED": int(aligned)}
    return KernelRequest("pyramid_fusion", {"T": dtype}, constants)


def classify_request(
    *,
    dtype: str,
    logits_yx: tuple[int, int],
    map_yx: tuple[int, int],
    resizes: Sequence[tuple[tuple[int, int], bool]],
) -> KernelRequest:
    """The kernel `classify`.

    Args:
        dtype: of the logits, by Triton's names.
        logits_yx: rows and columns of the logits.
        map_yx: rows and columns of the map.
        resizes: rows and columns after each resize, and whether it aligns corners.
    """
    steps = len(resize_steps(logits_yx, resizes=resizes))
    rows, columns = classify_block(classify_room(dtype, steps=steps), steps=steps, logits_yx=logits_yx, map_yx=map_yx)
    constants = {"STEPS": steps, "ALIGNED": int(map_yx[1] % _ROW == 0), "TY": rows, "TX": columns}
    return KernelRequest("classify", {"T": dtype}, constants)


def prepare_request(*, sample: str, dtype: str, pixels: int) -> KernelRequest:
    """The kernel `prepare`.

    Args:
        sample: dtype of the digital numbers, by Triton's names.
        dtype: of the values.
        pixels: of one band.
    """
    return KernelRequest("prepare", {"S": sample, "T": dtype}, {"ALIGNED": int(pixels % _ROW == 0)})
