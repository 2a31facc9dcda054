"""What is said to a worker: which scene, by which plan, into which maps. It travels, and holds nothing that is open."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import UPerFuseError
from ..plan.manifest import Manifest
from ..rasters.scene import Scene
from ..rasters.work import MapOptions

__all__ = ["Errand", "Group", "Job", "MissingPlanError", "Planned", "Share"]


@dataclass(frozen=True)
class Planned:
    """What the maps of a cluster depend on; see `rasters.work.Planned`."""

    manifest: Manifest
    plan_hash: str
    device: str
    precision: str


@dataclass(frozen=True)
class Job:
    """A scene to map.

    Attributes:
        name: no other job has it.
        plan: where the plan lies; a worker that does not find it there has it sent.
        plan_hash: of the plan.
        device: for `Engine.load`.
        precision: for `Engine.load`.
        threads: processor threads of each worker; None takes all that it may use.
        tile_px: for `Engine.load`.
        prime_cache: for `Engine.load`; every worker sees it.
        scene: which rasters; every worker reads them from the same paths.
        out: folder of the maps, which every worker sees.
        options: how the scene is mapped.
    """

    name: str
    plan: Path
    plan_hash: str
    device: str
    precision: str
    threads: int | None
    tile_px: int | None
    prime_cache: Path | None
    scene: Scene
    out: Path
    options: MapOptions


@dataclass(frozen=True)
class Errand:
    """What all groups of tiles of a run have in common; sent to every worker once.

    Attributes:
        job: of which scene.
        settings: what the maps depend on, as the process that publishes them sees it.
        shares: folder for what the workers leave.
    """

    job: Job
    settings: Mapping[str, str]
    shares: Path


@dataclass(frozen=True)
class Group:
    """Tiles that lie together, which a worker maps in one go.

    Attributes:
        job: name of the job of their errand.
        tiles: their numbers.
    """

    job: str
    tiles: tuple[int, ...]


@dataclass(frozen=True)
class Share:
    """What a worker made of some tiles.

    Attributes:
        path: their journal, in the folder of the run.
        tiles: their numbers.
        seconds: stage -> seconds that it was busy.
    """

    path: Path
    tiles: tuple[int, ...]
    seconds: Mapping[str, float]


class MissingPlanError(UPerFuseError):
    """A machine does not have the plan yet."""
