"""The check that a plan carries: tiles drawn from a seed, and the logits that PyTorch gave for them."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .errors import PlanError
from .flairhub import dates_key
from .plan.manifest import Manifest, Modality

if TYPE_CHECKING:
    from .engine import Engine

__all__ = ["CheckResult", "check_tiles_of", "relative_error", "run_check"]

# By how much more than float32 a precision may be off. bf16 keeps 8 bits of a number: networks of random weights were
# off by 0.2 to 3.4 %, trained ones by less. What 8 bits may cost is limited on the user's tiles, from which ranges are
# chosen; on drawn ones this finds what does not compute the network.
_FACTORS = {"float32": 1, "fp16": 500, "bf16": 500, "int8": 3000, "fp8": 3000}
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


def relative_error(got: NDArray[np.floating[Any]], expected: NDArray[np.floating[Any]]) -> float:
    """L2 norm of the difference over the L2 norm of what is expected."""
    difference = got.astype(np.float64) - expected.astype(np.float64)
    return float(np.linalg.norm(difference) / max(float(np.linalg.norm(expected.astype(np.float64))), 1e-30))


def run_check(engine: Engine) -> list[CheckResult]:
    """Repeat the check of the engine's plan on the engine's device.

    Raises:
        PlanError: the plan carries no check.
    """
    check = engine.manifest.check
    if check is None:
        raise PlanError("the plan carries no check; export it again with this version")
    tiles = check_tiles_of(engine.manifest, seed=check.seed, dates=check.dates)
    logits = engine.predict(tiles, logits=True).logits
    bound = check.max_relative_error * _FACTORS[engine.precision]
    results = []
    for task, member in check.members.items():
        got = logits[task][0, :, :: check.stride_px, :: check.stride_px]
        expected = _expected(engine, member, shape=got.shape)
        equal = float((got.argmax(0) == expected.argmax(0)).mean())
        results.append(CheckResult(task, relative_error(got, expected), equal, bound))
    return results


def _expected(engine: Engine, member: str, *, shape: tuple[int, ...]) -> NDArray[np.float32]:
    try:
        expected = np.load(io.BytesIO(engine.plan.member(member)), allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise PlanError(f"{member} is not a NumPy array: {error}; export the plan again") from error
    if not isinstance(expected, np.ndarray) or expected.dtype != np.float32 or expected.shape != shape:
        raise PlanError(f"{member} does not hold float32 logits of shape {shape}; export the plan again")
    return expected


def _image(modality: Modality, rng: np.random.Generator) -> NDArray[Any]:
    low, high = _DIGITAL_NUMBERS[modality.dtype]
    size = modality.tile_px
    coarse_px = min(_COARSE_PX, size)
    coarse = rng.uniform(low, high, (len(modality.bands), -(-size // coarse_px), -(-size // coarse_px)))
    smooth = np.kron(coarse, np.ones((1, coarse_px, coarse_px)))[:, :size, :size]
    noise = rng.normal(0.0, 0.05 * (high - low), smooth.shape)
    return np.clip(smooth + noise, low, high).astype(modality.dtype)
