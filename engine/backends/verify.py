"""Whether a back end gives a plan's maps: compared with the processor in float32, or with what the plan carries."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..agreement import agreement_of
from ..check import check_tiles_of, compare_with_check, stored_check
from ..flairhub import dates_key
from ..plan.manifest import Manifest
from ..plan.payloads import Agreement
from ..plan.plan import Plan
from ..tiles import check_tiles
from .base import Backend

__all__ = ["against_check", "against_processor", "fixed_batches"]

_SEED = 72_100
_DATES = 13


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
        agreement_of(task, np.concatenate([got for got, _ in pairs]), np.concatenate([truth for _, truth in pairs]))
        for task, pairs in found.items()
    )


def against_check(backend: Backend, plan: Plan) -> tuple[Agreement, ...]:
    """Compare a back end with the logits that PyTorch gave for the check that a plan carries.

    Args:
        backend: in question.
        plan: an open plan.

    Raises:
        PlanError: the plan carries no check.
    """
    check, manifest = stored_check(plan), plan.manifest
    tiles = check_tiles(check_tiles_of(manifest, seed=check.seed, dates=check.dates), manifest=manifest)
    return compare_with_check(
        plan, backend.predict(tiles, known=None, logits=True, grid="label", residence="host").logits
    )
