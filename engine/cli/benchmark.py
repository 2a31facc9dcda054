"""`uperfuse benchmark`: how fast and how right a plan runs on this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from ..benchmark import Latency, Measured, measure
from ..errors import BackendError
from .tables import console, size, table

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add `benchmark` to the command line."""
    app.command("benchmark")(_benchmark)


def _benchmark(
    plan: Annotated[Path, typer.Argument(help="The plan.", show_default=False)],
    device: Annotated[list[str] | None, typer.Option(help="auto, cpu, cuda or cuda:1; may be given again.")] = None,
    precision: Annotated[str, typer.Option(help="auto, or a precision of the device.")] = "auto",
    rounds: Annotated[int, typer.Option(min=3, help="Of every measurement, after warming up.")] = 30,
    batch: Annotated[str, typer.Option(help="Tiles at a time, for throughput.")] = "1,4",
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write everything that was measured here, too.", show_default=False)
    ] = None,
) -> None:
    """Time a plan on this machine: loading, a tile, a primed frame, throughput; memory, and agreement with float32."""
    out = console()
    try:
        batches = tuple(int(part) for part in batch.split(","))
    except ValueError:
        raise BackendError(f"--batch is {batch!r}, expected whole numbers such as 1,4; correct it") from None
    found = [
        measure(plan, device=each, precision=precision, rounds=rounds, batches=batches, say=out.print)
        for each in device or ["auto"]
    ]
    for each in found:
        for line in each.reasons:
            out.print(line, highlight=False)
    out.print(_times(found, batches))
    out.print(_agreement(found))
    out.print(
        f"on {found[0].machine}; times of {rounds} rounds after warming up; agreement on one random tile, harder than "
        "any that a network was trained on",
        highlight=False,
    )
    if json_file is not None:
        json_file.write_text(json.dumps([each.to_json() for each in found], indent=1) + "\n", encoding="utf-8")
        out.print(f"{json_file}: everything that was measured")


def _times(found: list[Measured], batches: tuple[int, ...]) -> Table:
    """A column for every device."""
    made = table("", *(f">{each.device}, {each.precision}" for each in found))
    made.add_row("load", *(f"{each.load_s:.2f} s" for each in found))
    made.add_row("first prediction", *(f"{each.first_s:.2f} s" for each in found))
    made.add_row("one tile, median, 95 %, 99 %", *(_percentiles(each.tile) for each in found))
    made.add_row("a primed frame", *(_percentiles(each.primed) for each in found))
    for batch in batches:
        made.add_row(f"{batch} at a time", *(f"{each.tiles_per_s[batch]:.2f} tiles/s" for each in found))
    made.add_row("memory of the process, at most", *(size(each.resident_bytes) for each in found))
    return made


def _agreement(found: list[Measured]) -> Table:
    made = table("Device", "Precision", "Task", ">Relative error", ">Classes equal")
    for each in found:
        for task in each.agreement:
            error, equal = f"{task.relative_error:.1e}", f"{task.argmax_equal:.3%}"
            made.add_row(each.device, each.precision, task.task, error, equal)
    return made


def _percentiles(latency: Latency | None) -> str:
    if latency is None:
        return "-"
    return f"{latency.p50_ms:.1f}, {latency.p95_ms:.1f}, {latency.p99_ms:.1f} ms"
