"""The check that a plan carries: tiles drawn from a seed, and the logits that PyTorch gave for them."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .agreement import BOUNDS, agreement_of
from .errors import PlanError
from .flairhub import dates_key
from .plan.manifest import Manifest
from .plan.network import Check, Modality
from .plan.payloads import Agreement
from .plan.plan import Plan

__all__ = ["CheckResult", "check_results", "check_tiles_of", "compare_with_check", "stored_check"]

_COARSE_PX = 16
_FIRST_DAY, _LAST_DAY = -134, 231
_DIGITAL_NUMBERS = {"uint8": (0, 255), "uint16": (0, 10_000), "int16": (0, 10_000), "float32": (0.0, 400.0)}


@dataclass(frozen=True)
class CheckResult:
    """One task of the check.

    Attributes:
        relative_error: L2 norm of the logits' difference over the L2 norm of the expected logits.
        argmax_equal: fraction of compared pixels with the same class.
        bound: largest relative error that passes.
    """

    task: str
    relative_error: float
    argmax_equal: float
    bound: float

    @property
    def passed(self) -> bool:
        """Whether the error is within its bound."""
        return self.relative_error <= self.bound


def check_tiles_of(manifest: Manifest, *, seed: int, dates: int) -> dict[str, Any]:
    """One tile of digital numbers of every modality, drawn from `seed` alone.

    Images are smooth at 16 px with noise on top, so that every layer of the network is exercised; series have
    `dates` acquisitions spread over the year.
    """
    tiles: dict[str, Any] = {}
    for place, modality in enumerate(manifest.modalities):
        rng = np.random.Generator(np.random.PCG64([seed, place]))
        if modality.kind == "image":
            tiles[modality.name] = _image(modality, rng)[None]
        else:
            days = np.sort(rng.choice(np.arange(_FIRST_DAY, _LAST_DAY), dates, replace=False))
            tiles[modality.name] = [np.stack([_image(modality, rng) for _ in range(dates)])]
            tiles[dates_key(modality.name)] = [days.astype(np.float32)]
    return tiles


def stored_check(plan: Plan) -> Check:
    """The check that a plan carries.

    Raises:
        PlanError: it carries none.
    """
    if plan.manifest.check is None:
        raise PlanError("the plan carries no check; export it again with this version")
    return plan.manifest.check


def compare_with_check(plan: Plan, logits: Mapping[str, NDArray[np.float32]]) -> tuple[Agreement, ...]:
    """Compare logits of the check's tile with those that PyTorch gave, task by task.

    Args:
        plan: an open plan.
        logits: of every task, [1, K, Y, X] at the size of the labels.

    Raises:
        PlanError: the plan carries no check, or logits of other shapes.
    """
    check = stored_check(plan)
    found = []
    for task, member in check.members.items():
        got = logits[task][:, :, :: check.stride_px, :: check.stride_px]
        found.append(agreement_of(task, got, _stored_logits(plan, member, shape=got.shape[1:])[None]))
    return tuple(found)


def check_results(plan: Plan, logits: Mapping[str, NDArray[np.float32]], *, precision: str) -> tuple[CheckResult, ...]:
    """Say of every task whether it is as near to PyTorch as its precision allows; see `compare_with_check`."""
    bound = stored_check(plan).max_relative_error * BOUNDS[precision].relative_error / BOUNDS["float32"].relative_error
    return tuple(
        CheckResult(each.task, each.relative_error, each.argmax_equal, bound)
        for each in compare_with_check(plan, logits)
    )


def _stored_logits(plan: Plan, member: str, *, shape: tuple[int, ...]) -> NDArray[np.float32]:
    try:
        stored = np.load(io.BytesIO(plan.member(member)), allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise PlanError(f"{member} is not a NumPy array: {error}; export the plan again") from error
    if not isinstance(stored, np.ndarray) or stored.dtype != np.float32 or stored.shape != shape:
        raise PlanError(f"{member} does not hold float32 logits of shape {shape}; export the plan again")
    return stored


def _image(modality: Modality, rng: np.random.Generator) -> NDArray[Any]:
    low, high = _DIGITAL_NUMBERS[modality.dtype]
    size = modality.tile_px
    coarse_px = min(_COARSE_PX, size)
    coarse = rng.uniform(low, high, (len(modality.bands), -(-size // coarse_px), -(-size // coarse_px)))
    smooth = np.kron(coarse, np.ones((1, coarse_px, coarse_px)))[:, :size, :size]
    noise = rng.normal(0.0, 0.05 * (high - low), smooth.shape)
    return np.clip(smooth + noise, low, high).astype(modality.dtype)
