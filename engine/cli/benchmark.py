"""`uperfuse benchmark`: how fast and how right a plan runs on this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from ..benchmark import Latency, Measured, measure
from ..benchmark_picture import draw_benchmark, empty_figure
from ..errors import BackendError
from .tables import console, size, table

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add `benchmark` to the command line."""
    app.command("benchmark")(_benchmark)


def _benchmark(
    plan: Annotated[Path, typer.Argument(help="The plan.", show_default=False)],
    device: Annotated[
        list[str] | None,
        typer.Option(help="auto, cpu, cuda or cuda:1; may be given again."),
    ] = None,
    precision: Annotated[
        list[str] | None,
        typer.Option(
            help="auto, or a precision of the device; may be given again. Without both options: the best device, and "
            "the processor in its best precision and in float32."
        ),
    ] = None,
    rounds: Annotated[int, typer.Option(min=3, help="Of every measurement, after warming up.")] = 30,
    png_file: Annotated[
        Path | None, typer.Option("--png", help="Draw latency, throughput and stages here.", show_default=False)
    ] = None,
    tile_px: Annotated[
        int | None,
        typer.Option(help="Side of a tile in pixels of the first image, one of the plan's.", show_default="its own"),
    ] = None,
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
    if png_file is not None:
        empty_figure()  # refused now, not when everything was measured
    found: list[Measured] = []
    for where, how in _sides(device, precision):
        if (where, how) == ("cpu", "auto") and [each.device for each in found] == ["cpu"]:
            continue  # auto was that
        measured = measure(
            plan, device=where, precision=how, tile_px=tile_px, rounds=rounds, batches=batches, say=out.print
        )
        found.append(measured)
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
    if png_file is not None:
        draw_benchmark(found, png_file)
        out.print(f"{png_file}: latency, throughput and stages")
    if json_file is not None:
        json_file.write_text(json.dumps([each.to_json() for each in found], indent=1) + "\n", encoding="utf-8")
        out.print(f"{json_file}: everything that was measured")


def _sides(devices: list[str] | None, precisions: list[str] | None) -> list[tuple[str, str]]:
    """What is measured: every precision that is asked for on every device, or what a user would choose from."""
    if devices is None and precisions is None:
        return [("auto", "auto"), ("cpu", "auto"), ("cpu", "float32")]
    return [(device, precision) for device in devices or ["auto"] for precision in precisions or ["auto"]]


def _times(found: list[Measured], batches: tuple[int, ...]) -> Table:
    """A column for every device."""
    made = table("", *(f">{each.device}, {each.precision}" for each in found))
    made.add_row("load", *(f"{each.load_s:.2f} s" for each in found))
    made.add_row("first prediction", *(f"{each.first_s:.2f} s" for each in found))
    made.add_row("one tile, median, 95 %, 99 %", *(_percentiles(each.tile) for each in found))
    made.add_row("a primed frame", *(_percentiles(each.primed) for each in found))
    for batch in batches:
        made.add_row(f"{batch} at a time", *(f"{each.tiles_per_s[batch]:.2f} tiles/s" for each in found))
    for stage in dict.fromkeys(stage for each in found for stage in each.stages_ms):
        made.add_row(f"of one tile: {stage}", *(_milliseconds(each.stages_ms.get(stage)) for each in found))
    if any(each.watts is not None for each in found):
        made.add_row("power", *("-" if each.watts is None else f"{each.watts:.1f} W" for each in found))
    made.add_row("memory of the process, at most", *(size(each.resident_bytes) for each in found))
    return made


def _agreement(found: list[Measured]) -> Table:
    made = table("Device", "Precision", "Task", ">Relative error", ">Classes equal")
    for each in found:
        for task in each.agreement:
            error, equal = f"{task.relative_error:.1e}", f"{task.argmax_equal:.3%}"
            made.add_row(each.device, each.precision, task.task, error, equal)
    return made


def _milliseconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} ms"


def _percentiles(latency: Latency | None) -> str:
    if latency is None:
        return "-"
    return f"{latency.p50_ms:.1f}, {latency.p95_ms:.1f}, {latency.p99_ms:.1f} ms"
