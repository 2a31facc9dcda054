"""Whether a back end gives a plan's maps: compared with the processor in float32, or with what the plan carries."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..check import check_tiles_of, relative_error
from ..errors import BackendError
from ..flairhub import dates_key
from ..plan.manifest import Check, Manifest
from ..plan.payloads import Agreement
from ..plan.plan import Plan
from ..tiles import check_tiles
from .base import Backend

__all__ = ["BOUNDS", "Bound", "against_check", "against_processor", "fixed_batches", "mean_iou", "refuse_unlike"]

_SEED = 72_100
_DATES = 13


class Bound(NamedTuple):
    """What a payload must reach on fixed tiles, which no network was trained on."""

    relative_error: float
    argmax_equal: float


BOUNDS = {
    # rounding alone
    "float32": Bound(1e-4, 0.9999),
    # networks of random weights were off by up to 3.4 % in bf16, trained ones by less; fp16 keeps three bits more
    "fp16": Bound(5e-2, 0.95),
    "bf16": Bound(5e-2, 0.95),
    # accuracy on the user's tiles is limited where ranges are chosen; this finds what does not compute the network
    "int8": Bound(3e-1, 0.8),
    "fp8": Bound(3e-1, 0.8),
}
"""By precision."""


def fixed_batches(manifest: Manifest, *, most_dates: int = _DATES) -> list[dict[str, Any]]:
    """Tiles that are the same on every machine: with all modalities, and with none that may be absent.

    Args:
        manifest: of the plan.
        most_dates: that a series may have.
    """
    full = check_tiles_of(manifest, seed=_SEED, dates=min(_DATES, most_dates))
    needed = [modality.name for modality in manifest.modalities if not modality.may_be_absent]
    some = {name: values for name, values in full.items() if name in {*needed, *map(dates_key, needed)}}
    return [full, some] if 0 < len(needed) < len(manifest.modalities) else [full]


def against_processor(
    backend: Backend, processor: Backend, manifest: Manifest, *, most_dates: int = _DATES
) -> tuple[Agreement, ...]:
    """Compare the logits of two back ends on fixed tiles.

    Args:
        backend: in question.
        processor: in float32, taken for the truth.
        manifest: of the plan.
        most_dates: that the back end takes of a series.

    Returns:
        The agreement of every task.
    """
    found: dict[str, list[tuple[NDArray[np.float32], NDArray[np.float32]]]] = {t.name: [] for t in manifest.tasks}
    for batch in fixed_batches(manifest, most_dates=most_dates):
        tiles = check_tiles(batch, manifest=manifest)
        got, truth = (
            each.predict(tiles, known=None, logits=True, grid="label", residence="host").logits
            for each in (backend, processor)
        )
        for task, pairs in found.items():
            pairs.append((got[task], truth[task]))
    return tuple(
        _agreement(task, np.concatenate([got for got, _ in pairs]), np.concatenate([truth for _, truth in pairs]))
        for task, pairs in found.items()
    )


def against_check(backend: Backend, plan: Plan, check: Check) -> tuple[Agreement, ...]:
    """Compare a back end with the logits that PyTorch gave for the check that a plan carries.

    Args:
        backend: in question.
        plan: an open plan.
        check: the plan's.
    """
    manifest = plan.manifest
    tiles = check_tiles(check_tiles_of(manifest, seed=check.seed, dates=check.dates), manifest=manifest)
    logits = backend.predict(tiles, known=None, logits=True, grid="label", residence="host").logits
    found = []
    for task, member in check.members.items():
        truth = np.load(io.BytesIO(plan.member(member)), allow_pickle=False)
        got = logits[task][:, :, :: check.stride_px, :: check.stride_px]
        found.append(_agreement(task, got, truth[None]))
    return tuple(found)


def refuse_unlike(agreement: Sequence[Agreement], *, precision: str, what: str) -> None:
    """Refuse what is not near enough to the truth.

    Raises:
        BackendError: names the task, what was found and what was expected.
    """
    bound = BOUNDS[precision]
    for each in agreement:
        if each.relative_error > bound.relative_error or each.argmax_equal < bound.argmax_equal:
            raise BackendError(
                f"{what} gives other maps of {each.task} than the plan: relative error {each.relative_error:.1e} and "
                f"{each.argmax_equal:.2%} of classes equal, expected at most {bound.relative_error:.0e} and at least "
                f"{bound.argmax_equal:.2%}; it is not used, build it in another precision or report it"
            )


def mean_iou(got: NDArray[np.integer[Any]], truth: NDArray[np.integer[Any]], *, classes: int) -> float:
    """Mean IoU in percent over the classes that occur in either map.

    Args:
        got: classes.
        truth: classes, of the same shape.
        classes: how many there are.
    """
    pairs = np.bincount(truth.ravel().astype(np.int64) * classes + got.ravel(), minlength=classes**2)
    confusion = pairs.reshape(classes, classes)
    both = confusion.diagonal()
    either = confusion.sum(0) + confusion.sum(1) - both
    return float(100 * (both[either > 0] / either[either > 0]).mean())


def _agreement(task: str, got: NDArray[np.float32], truth: NDArray[np.float32]) -> Agreement:
    """Logits [B, K, Y, X] beside those that are true."""
    ours, theirs = got.argmax(1), truth.argmax(1)
    return Agreement(
        task=task,
        relative_error=relative_error(got, truth),
        argmax_equal=float((ours == theirs).mean()),
        miou=mean_iou(ours, theirs, classes=got.shape[1]),
    )
