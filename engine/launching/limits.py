"""What kernels cannot serve, in words: one statement each, which launches from PyTorch and builds of plans repeat."""

from __future__ import annotations

from collections.abc import Sequence

from .numbers import ResizeStep

__all__ = ["aggregate_limit", "attention_limit", "classify_limit", "dates_limit"]

_LEAST_HEADS = 16
"""A product on tensor cores has that many columns."""
_MOST_CHANNELS = 256
_MOST_DATES = 256
_MOST_RESIZES = 2


def attention_limit(*, heads: int, channels: int, embedding: int) -> str | None:
    """Why `temporal_attention` cannot serve these sizes.

    Args:
        heads: H, each with one query.
        channels: C of the features.
        embedding: D, channels of the context.

    Returns:
        What it got and what it expects; None where it serves them.

    Example:
        >>> attention_limit(heads=16, channels=128, embedding=256) is None
        True
    """
    powers = all(map(_is_power_of_two, (heads, channels, embedding)))
    if powers and _LEAST_HEADS <= heads <= min(channels, embedding) and max(channels, embedding) <= _MOST_CHANNELS:
        return None
    return (
        f"the kernel got {heads} heads, {channels} channels and {embedding} of the embedding, expected powers of two, "
        f"{_LEAST_HEADS} heads or more, and at least as many and at most {_MOST_CHANNELS} of the others"
    )


def dates_limit(dates: int) -> str | None:
    """Why `temporal_attention` cannot serve so many dates; None where it can.

    Example:
        >>> dates_limit(366)
        'the kernel got 366 dates, expected at most 256'
    """
    return f"the kernel got {dates} dates, expected at most {_MOST_DATES}" if dates > _MOST_DATES else None


def aggregate_limit(*, heads: int, channels: Sequence[int]) -> str | None:
    """Why `temporal_aggregate` cannot serve these sizes.

    Args:
        heads: of the attention.
        channels: of every map that is summed.

    Returns:
        What it got and what it expects; None where it serves them.

    Example:
        >>> aggregate_limit(heads=16, channels=[64, 96])
        'the kernel got maps of [64, 96] channels and 16 heads, expected powers of two, and at least one channel a head'
    """
    if all(map(_is_power_of_two, (heads, *channels))) and all(each >= heads for each in channels):
        return None
    return (
        f"the kernel got maps of {list(channels)} channels and {heads} heads, expected powers of two, and at least one "
        "channel a head"
    )


def classify_limit(steps: Sequence[ResizeStep]) -> str | None:
    """Why `classify` cannot serve these resizes.

    Args:
        steps: as `resize_steps` gives them.

    Returns:
        What it got and what it expects; None where it serves them.
    """
    if len(steps) > _MOST_RESIZES:
        return f"the kernel got {len(steps)} resizes, expected at most {_MOST_RESIZES}"
    if len(steps) == _MOST_RESIZES:
        first = steps[0]
        if any(to < source for source, to in zip(first.source_yx, first.to_yx, strict=True)):
            return (
                f"the kernel got two resizes, the first from {first.source_yx} to {first.to_yx} px, expected no axis "
                "to get shorter by it"
            )
    return None


def _is_power_of_two(size: int) -> bool:
    return size > 0 and size & (size - 1) == 0
