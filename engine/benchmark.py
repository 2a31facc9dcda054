"""How fast and how right a plan runs on a machine: times after warming up, memory, and agreement with float32."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .agreement import relative_error
from .backends.openvino_core import openvino_core
from .check import check_tiles_of
from .cores import usable_cores
from .engine import Engine
from .flairhub import dates_key
from .host_memory import most_resident_bytes
from .plan.manifest import Manifest
from .power import power_meter

__all__ = ["Latency", "Measured", "TaskAgreement", "family_of", "machine", "measure", "tiles_for"]

_SEED = 5_150
_DATES = 13
_WARM_UP = 3
_MS = 1e3


@dataclass(frozen=True)
class Latency:
    """Times of one thing done again and again, in milliseconds."""

    p50_ms: float
    p95_ms: float
    p99_ms: float
    rounds: int


@dataclass(frozen=True)
class TaskAgreement:
    """Logits of a task beside those of the processor in float32, on the benchmark's tile.

    Attributes:
        relative_error: L2 norm of the difference over the L2 norm of the logits.
        argmax_equal: fraction of pixels with the same class.
    """

    task: str
    relative_error: float
    argmax_equal: float


@dataclass(frozen=True)
class Measured:
    """One device and precision.

    Attributes:
        device: that ran.
        precision: that it computed in.
        reasons: what ran, where and why.
        load_s: from the path to an engine that is ready.
        first_s: the first prediction.
        tile: one tile with all modalities, from raw numbers to maps.
        primed: the base modality alone, after the others were primed; None where there are no others.
        tiles_per_s: tiles at a time -> throughput.
        stages_ms: stage -> milliseconds of one tile, on average; empty where the device does not tell them apart.
        watts: drawn while tiles were predicted, on average; None where nothing tells.
        power_source: what told.
        resident_bytes: the most memory that the process held.
        agreement: by task.
        machine: processor and system.
    """

    device: str
    precision: str
    reasons: tuple[str, ...]
    load_s: float
    first_s: float
    tile: Latency
    primed: Latency | None
    tiles_per_s: Mapping[int, float]
    stages_ms: Mapping[str, float]
    watts: float | None
    power_source: str | None
    resident_bytes: int
    agreement: tuple[TaskAgreement, ...]
    machine: str

    def to_json(self) -> dict[str, Any]:
        """Everything, in what JSON knows."""
        return asdict(self)


def tiles_for(manifest: Manifest, *, count: int, names: Sequence[str] | None = None) -> dict[str, Any]:
    """Random tiles that are the same on every machine.

    Args:
        manifest: of the plan.
        count: tiles.
        names: modalities; all where left out.
    """
    one = check_tiles_of(manifest, seed=_SEED, dates=_DATES)
    wanted = {m.name for m in manifest.modalities} if names is None else set(names)
    series = {m.name for m in manifest.modalities if m.kind == "series"}
    listed = series | {dates_key(name) for name in series}
    tiles: dict[str, Any] = {}
    for name in wanted | {dates_key(each) for each in wanted & series}:
        tiles[name] = list(one[name]) * count if name in listed else np.repeat(one[name], count, axis=0)
    return tiles


def measure(
    path: Path,
    *,
    device: str,
    precision: str = "auto",
    tile_px: int | None = None,
    rounds: int = 30,
    batches: Sequence[int] = (1, 4),
    say: Callable[[str], None] = lambda _: None,
    **options: Any,
) -> Measured:
    """Load a plan and time it.

    Args:
        path: the plan.
        device: as `Engine.load` takes it.
        precision: as `Engine.load` takes it.
        tile_px: as `Engine.load` takes it.
        rounds: of every measurement, after warming up.
        batches: tiles at a time, for throughput.
        say: where progress goes, a line at a time.
        options: of `Engine.load`.

    Raises:
        PlanError: the plan breaks a rule.
        BackendError: the device or precision cannot serve.
    """
    say(f"loading on {device}")
    start = time.perf_counter()
    with Engine.load(path, device=device, precision=precision, tile_px=tile_px, **options) as engine:
        load_s = time.perf_counter() - start
        manifest = engine.manifest
        tile = tiles_for(manifest, count=1)
        start = time.perf_counter()
        logits = engine.predict(tile, logits=True).logits
        first_s = time.perf_counter() - start
        say(f"timing {rounds} rounds")
        engine.predict(tile)
        before = dict(engine.seconds)
        with power_meter(gpu=engine.device != "cpu") as power:
            latency = _latency(lambda: engine.predict(tile), rounds)
        calls = rounds + _WARM_UP
        stages = {name: _MS * (spent - before[name]) / calls for name, spent in engine.seconds.items()}
        primed = _primed(engine, rounds)
        throughput = {}
        for batch in batches:
            tiles = tiles_for(manifest, count=batch)
            times = _latency(partial(engine.predict, tiles), max(rounds // batch, 3))
            throughput[batch] = batch * _MS / times.p50_ms
        found = Measured(
            device=engine.device,
            precision=engine.precision,
            reasons=engine.reasons,
            load_s=load_s,
            first_s=first_s,
            tile=latency,
            primed=primed,
            tiles_per_s=throughput,
            stages_ms=stages,
            watts=power.watts if power else None,
            power_source=power.source if power else None,
            resident_bytes=most_resident_bytes(),
            agreement=(),
            machine=machine(),
        )
    say("comparing with the processor in float32")
    with Engine.load(path, device="cpu", precision="float32", tile_px=tile_px) as processor:
        truth = processor.predict(tile, logits=True).logits
    agreement = tuple(
        TaskAgreement(
            task,
            relative_error(logits[task], truth[task]),
            float((logits[task].argmax(1) == truth[task].argmax(1)).mean()),
        )
        for task in truth
    )
    return Measured(**{**found.__dict__, "agreement": agreement})


def _primed(engine: Engine, rounds: int) -> Latency | None:
    """A frame whose other modalities are known."""
    manifest = engine.manifest
    others = [m.name for m in manifest.modalities if m.name != manifest.base]
    if not others:
        return None
    known, frame = (tiles_for(manifest, count=1, names=names) for names in (others, [manifest.base]))
    area = engine.prime(known)
    try:
        return _latency(lambda: area.predict(frame), rounds)
    finally:
        area.close()


def _latency(work: Callable[[], object], rounds: int) -> Latency:
    for _ in range(_WARM_UP):
        work()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append(_MS * (time.perf_counter() - start))
    p50, p95, p99 = np.percentile(times, [50, 95, 99])
    return Latency(float(p50), float(p95), float(p99), rounds)


def machine() -> str:
    """The processor, how many cores of it may be used, and what runs on it."""
    name = openvino_core().get_property("CPU", "FULL_DEVICE_NAME").strip() + family_of()
    return (
        f"{name}, {usable_cores()} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}"
    )


def family_of(told: Path = Path("/proc/cpuinfo")) -> str:
    """Family and model of an x86 processor, where the system tells: a virtual one's name may say neither."""
    try:
        lines = told.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    # of several processors the first one's
    facts = dict(reversed([[part.strip() for part in line.split(":", 1)] for line in lines if ":" in line]))
    numbers = [facts.get("cpu family"), facts.get("model")]
    return f" (family {numbers[0]}, model {numbers[1]})" if all(numbers) else ""
