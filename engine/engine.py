"""The engine: a plan, loaded on a device, that turns tiles into maps."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, get_args

from .backends import Backend, Grid, Known, Residence, select_backend
from .check import CheckResult, check_results, check_tiles_of, stored_check
from .errors import BackendError, TileError
from .plan.manifest import Manifest
from .plan.plan import Plan
from .prediction import Prediction
from .tiles import Tile, check_tiles
from .trust import TrustLevel

if TYPE_CHECKING:
    from .rasters import MapSummary, Scene

__all__ = ["Engine", "Primed"]


class Engine:
    """A plan that is ready to predict; safe to use from several threads.

    Example:
        >>> with Engine.load(plan_path) as engine:
        ...     prediction = engine.predict(tiles)
        >>> prediction.labels["AERIAL_LABEL-COSIA"].shape
        (1, 512, 512)
    """

    def __init__(self, plan: Plan, backend: Backend) -> None:
        self._plan: Plan | None = plan
        self._backend = backend
        self.manifest: Manifest = plan.manifest
        self.plan_hash: str = plan.hash

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        device: str = "auto",
        precision: str = "auto",
        threads: int | None = None,
        tile_px: int | None = None,
        trust: TrustLevel = "local",
        prime_cache: str | os.PathLike[str] | None = None,
    ) -> Engine:
        """Open a plan, check every byte that will be used, and compile it.

        Args:
            path: a `.plan` file.
            device: "auto" takes the best device there is; one that is named ("cpu", "cuda", "cuda:1") is used or
                refused, never swapped.
            precision: "auto" (the fastest that the device multiplies natively, or that the plan was built for),
                "float32", "bf16", "int8", or on a GPU also "fp16" and "fp8".
            threads: processor threads; None takes all that this process may use.
            tile_px: side of a tile in pixels of the base modality, one of `manifest.tile_sides_px`; None takes the
                plan's own.
            trust: whose prebuilt engines may run, for they are native code: "local" of those whose keys are in the
                keyring and of this machine, "any", "none". What may not run is built anew from the plan's graphs.
            prime_cache: folder in which encoded series are kept and looked for, on a processor; maps are the same with
                it and without it.

        Raises:
            PlanError: the file breaks a rule of the format.
            BackendError: the device or the precision cannot serve.
        """
        plan = Plan.open(Path(path), tile_px=tile_px)
        try:
            backend = select_backend(
                plan,
                device=device,
                precision=precision,
                threads=threads,
                trust=trust,
                prime_cache=None if prime_cache is None else Path(prime_cache),
            )
            return cls(plan, backend)
        except BaseException:  # Ctrl-C during a long compilation, too
            plan.close()
            raise

    @property
    def plan(self) -> Plan:
        """The open plan.

        Raises:
            BackendError: the engine was closed.
        """
        if self._plan is None:
            raise BackendError("the engine is closed; load the plan again")
        return self._plan

    @property
    def device(self) -> str:
        """What runs the plan: "cpu", or a GPU such as "cuda:0"."""
        return self._backend.device

    @property
    def precision(self) -> str:
        """Precision that the back end computes in: "float32", "bf16", "fp16", "int8" or "fp8"."""
        return self._backend.precision

    @property
    def reasons(self) -> tuple[str, ...]:
        """What runs, where and why, a line each."""
        return self._backend.reasons

    @property
    def seconds(self) -> Mapping[str, float]:
        """Stage -> seconds that it has taken in all predictions so far; empty where the device does not tell."""
        return self._backend.seconds

    def predict(
        self,
        tiles: Mapping[str, Any],
        *,
        voids: Mapping[str, Any] | None = None,
        logits: bool = False,
        grid: Grid = "label",
        residence: Residence = "host",
    ) -> Prediction:
        """Map a batch of tiles.

        The result of a tile does not depend on the tiles beside it, bit for bit.

        Args:
            tiles: modality -> raw digital numbers in the plan's bands and dtype. Images: [B, C, Y, X], or [C, Y, X]
                for one tile. Series: a list of B arrays [T, C, Y, X] with any number of dates each, or one such
                array; their dates under `<SENSOR>_DATES` as arrays [T] of `datetime64` or of days from the plan's
                reference date. T may be 0 where no acquisition is clear.
            voids: modality -> True where a pixel is void: [B, Y, X], or a list of [T, Y, X]. A void pixel enters the
                network as the mean; where the base image is void the map is 255.
            logits: also return logits at the size of the labels.
            grid: "label" for maps of `manifest.label_px`, "base" for the base modality's own pixels.
            residence: "host" for NumPy arrays, "device" for arrays on the device that made them.

        Returns:
            Labels, confidence in percent and, if asked for, logits of every task.

        Raises:
            TileError: names modality, axis, got and expected; or NaN at pixels that no mask calls void.
        """
        records = check_tiles(tiles, manifest=self.plan.manifest, voids=voids)
        return self._map(records, None, logits=logits, grid=grid, residence=residence)

    def prime(self, tiles: Mapping[str, Any], *, voids: Mapping[str, Any] | None = None) -> Primed:
        """Run the encoders of what is known before the rest arrives.

        Args:
            tiles: a batch of tiles of some of the modalities, as `predict` takes them.
            voids: as `predict` takes them.

        Returns:
            A context whose `predict` takes the other modalities and equals one call with all of them.

        Raises:
            TileError: as `predict`.
        """
        names = tuple(m.name for m in self.manifest.modalities if m.name in tiles)
        if not names:
            raise TileError(f"nothing to prime, expected some of {', '.join(m.name for m in self.manifest.modalities)}")
        others = [m.name for m in self.manifest.modalities if m.name not in names]
        records = check_tiles(tiles, manifest=self.plan.manifest, voids=voids, primed=others)
        return Primed(names, self._backend.prime(records), engine=self)

    def warm_up(self, *, batch: int = 1, dates: int = 32) -> None:
        """Do now what a first prediction of tiles with all modalities would have to do.

        Args:
            batch: tiles at a time.
            dates: of each series; those of the next larger bucket are served, too.

        Raises:
            BackendError: the device was not built for so many, or failed.
        """
        self._check_open()
        self._backend.warm_up(batch=batch, dates=dates)

    def verify(self) -> tuple[CheckResult, ...]:
        """Repeat the check that the plan carries on the engine's device.

        Returns:
            How near the logits of every task are to those that PyTorch gave when the plan was exported.

        Raises:
            PlanError: the plan carries no check.
        """
        check = stored_check(self.plan)
        tiles = check_tiles_of(self.manifest, seed=check.seed, dates=check.dates)
        return check_results(self.plan, self.predict(tiles, logits=True).logits, precision=self.precision)

    def predict_raster(self, scene: Scene, out: str | os.PathLike[str], **options: Any) -> MapSummary:
        """Map whole rasters; see `uperfuse.engine.rasters.predict_raster`."""
        from .rasters import predict_raster

        return predict_raster(self, scene, Path(out), **options)

    def describe(self) -> str:
        """Say what runs, where, in which precision, and why."""
        manifest = self.manifest
        takes = (m.name + (" (may be absent)" if m.may_be_absent else "") for m in manifest.modalities)
        makes = (f"{task.name} ({len(task.classes)} classes)" for task in manifest.tasks)
        return "\n".join(
            [
                f"{manifest.name}, plan {self.plan_hash[:12]}: {manifest.encoder}, {manifest.decoder}",
                f"takes {', '.join(takes)}",
                f"makes {', '.join(makes)}",
                *self._backend.reasons,
            ]
        )

    def close(self) -> None:
        """Give memory back; the engine cannot predict any more."""
        plan, self._plan = self._plan, None
        if plan is not None:
            try:
                self._backend.close()
            finally:
                plan.close()

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _map(
        self, records: list[Tile], known: Known | None, *, logits: bool, grid: Grid, residence: Residence
    ) -> Prediction:
        self._check_open()
        for what, got, kinds in (("grid", grid, get_args(Grid)), ("residence", residence, get_args(Residence))):
            if got not in kinds:
                raise TileError(f"{what} is {got!r}, expected one of {', '.join(kinds)}")
        return self._backend.predict(records, known=known, logits=logits, grid=grid, residence=residence)

    def _check_open(self) -> None:
        if self._plan is None:
            raise BackendError("the engine is closed; load the plan again")


class Primed:
    """Features of tiles of which some modalities are known; made by `Engine.prime`.

    Attributes:
        modalities: what is known already.
    """

    def __init__(
        self,
        modalities: tuple[str, ...],
        known: Known,
        *,
        engine: Engine,
    ) -> None:
        self.modalities = modalities
        self._known = known
        self._engine = engine

    def predict(
        self,
        tiles: Mapping[str, Any],
        *,
        voids: Mapping[str, Any] | None = None,
        logits: bool = False,
        grid: Grid = "label",
        residence: Residence = "host",
    ) -> Prediction:
        """Map the primed tiles with what has arrived since; see `Engine.predict`.

        Raises:
            TileError: as `Engine.predict`; or the batch has another size than the one that was primed.
        """
        records = check_tiles(tiles, manifest=self._engine.manifest, voids=voids, primed=self.modalities)
        count = len(self._known)
        if not records and not tiles:
            records = [{} for _ in range(count)]
        if len(records) != count:
            raise TileError(f"{len(records)} tiles are given and {count} are primed; give as many")
        return self._engine._map(records, self._known, logits=logits, grid=grid, residence=residence)

    def close(self) -> None:
        """Give the memory of what is known back; the context cannot predict any more."""
        self._known.close()
