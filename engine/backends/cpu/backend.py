"""The CPU back end: one tile after the other through the steps, all cores on each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...classify import Classifier
from ...errors import BackendError
from ...plan.plan import Plan
from ...prediction import Prediction
from ...series import date_bucket
from ...stopwatch import Stopwatch
from ...tiles import Tile
from ..base import Grid, Residence
from .segments import CpuSegments
from .series_store import SeriesStore
from .steps import Features, Steps

__all__ = ["CpuBackend", "CpuKnown"]


@dataclass(frozen=True)
class CpuKnown:
    """Features of primed tiles."""

    features: tuple[Features, ...]

    def __len__(self) -> int:
        return len(self.features)

    def close(self) -> None:
        """Nothing to do: arrays go when nobody refers to them."""


class CpuBackend:
    """A plan on the processor; see `Backend`.

    Args:
        plan: an open plan.
        precision: "auto" (int8 where the plan has that form, else bf16 where the processor has it), "float32", "bf16"
            or "int8".
        threads: processor threads; None takes all that this process may use.
        prime_cache: folder of series that were encoded before; see `SeriesStore`.
        why: lines that say why it is the processor.

    Raises:
        PlanError: a segment's graph is not what the plan says of it.
        BackendError: the precision is unknown or the processor lacks it, or a segment cannot be compiled.
    """

    device = "cpu"

    def __init__(
        self,
        plan: Plan,
        *,
        precision: str,
        threads: int | None,
        prime_cache: Path | None = None,
        why: tuple[str, ...] = (),
    ) -> None:
        self._manifest = plan.manifest
        self._segments = CpuSegments(plan, precision=precision, threads=threads)
        self.precision = self._segments.precision
        self.threads = self._segments.threads
        self.reasons = (*self._segments.reasons, *why)
        self._watch = Stopwatch()
        store = SeriesStore(prime_cache, plan) if prime_cache is not None else None
        self._steps = Steps(plan.manifest, self._segments, self._watch, store)
        grids: tuple[Grid, ...] = ("label", "base")
        self._classifiers = {grid: Classifier(plan.manifest, grid=grid, threads=self.threads) for grid in grids}

    @property
    def seconds(self) -> dict[str, float]:
        """See `Backend.seconds`."""
        return dict(self._watch.seconds)

    def predict(
        self, tiles: Sequence[Tile], *, known: CpuKnown | None, logits: bool, grid: Grid, residence: Residence = "host"
    ) -> Prediction:
        """See `Backend.predict`."""
        if residence != "host":
            raise BackendError(f"maps were asked for on the {residence}, and the processor has none; use 'host'")
        classifier = self._classifiers[grid]
        maps = classifier.empty(len(tiles), logits=logits)
        before = known.features if known is not None else (None,) * len(tiles)
        with self._segments.session() as session:
            for index, (tile, features) in enumerate(zip(tiles, before, strict=True)):
                fused = self._steps.fuse(session, self._steps.encode(session, tile, known=features))
                for task, quarter in self._steps.logits(session, fused):
                    with self._watch.stage("classify"):
                        classifier.write(maps, index, quarter, task=task, void=fused.void)
        return maps

    def prime(self, tiles: Sequence[Tile]) -> CpuKnown:
        """See `Backend.prime`."""
        with self._segments.session() as session:
            return CpuKnown(tuple(self._steps.keep(session, self._steps.encode(session, tile)) for tile in tiles))

    def warm_up(self, *, batch: int, dates: int) -> None:  # noqa: ARG002  tiles run one at a time
        """Compile the encoders of series for `dates`; nothing else depends on what arrives."""
        for modality in self._manifest.modalities:
            if modality.kind == "series":
                self._segments.series_encoder(modality.name, date_bucket(dates))

    def close(self) -> None:
        """Drop sessions and compiled models; those in use by other threads end first."""
        self._segments.close()
