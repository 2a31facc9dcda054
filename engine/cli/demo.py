"""`uperfuse demo`: a simulated place, mapped before one's eyes."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from ..demo import DemoResult, TaskResult

__all__ = ["register"]

_WIDTH = 100  # where the output is not a terminal
_SMALLEST_PX, _LARGEST_PX = 128, 4096

# A village by a river among vines, woods and fields: most classes of both tasks on a few hectares. The small plan was
# trained on places of other seeds.
_SEED, _SIZE = 22, "1280x1408"

_STAGES = {
    "load plan": "check every byte of it, compile it",
    "simulate": "landscape, seven sensors, truth",
    "write scene": "GeoTIFFs of all of them",
    "map": "tiles read, through the network, kept",
    "publish": "put together as Cloud-Optimised GeoTIFFs, read back and compared",
    "compare": "map against truth",
    "draw": "the picture",
}


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("demo", no_args_is_help=True)(_demo)


def _demo(
    plan: Annotated[Path, typer.Argument(help="The .plan file.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the scene, the maps and the picture.")] = Path(
        "out/demo"
    ),
    seed: Annotated[int, typer.Option(min=0, help="Which place is simulated.")] = _SEED,
    size: Annotated[str, typer.Option(help="Rows x columns of its aerial image, in pixels of 0.2 m.")] = _SIZE,
    threads: Annotated[int | None, typer.Option(min=1, help="Processor threads.")] = None,
) -> None:
    """Simulate a place with all its sensors, map it, compare the map with the truth, and draw both.

    Files of an earlier demo in the same folder are replaced, others are left alone.
    """
    from ..demo import run_demo

    shape_yx_px = _shape(size)
    progress = Console(stderr=True)

    def status(what: str) -> AbstractContextManager[object]:
        return progress.status(what) if progress.is_terminal else nullcontext()

    result = run_demo(plan, out=out, seed=seed, shape_yx_px=shape_yx_px, threads=threads, status=status)
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_WIDTH)
    _print(result, console)


def _shape(size: str) -> tuple[int, int]:
    sides = size.lower().split("x")
    if len(sides) != 2 or not all(side.isdecimal() and _SMALLEST_PX <= int(side) <= _LARGEST_PX for side in sides):
        raise typer.BadParameter(
            f"size is {size}, expected ROWSxCOLUMNS, each from {_SMALLEST_PX} to {_LARGEST_PX}; write --size {_SIZE}"
        )
    rows, columns = map(int, sides)
    return rows, columns


def _print(result: DemoResult, console: Console) -> None:
    place = result.scene
    height_m, width_m = (0.2 * side for side in place.shape_yx_px)
    console.print(
        f"A simulated place: {place.domain}, seed {place.seed}, {width_m:.0f} x {height_m:.0f} m, {place.acquired}. "
        "Mapped by",
        soft_wrap=True,
    )
    console.print(result.engine, markup=False, soft_wrap=True)
    for task in result.tasks:
        console.print()
        console.print(_class_table(task, coloured=console.color_system is not None))
    if any(task.agreement.accuracy is not None for task in result.tasks):
        console.print()
        console.print(
            "user's: share of the mapped area that is right; producer's: share of the true area that was found"
        )
    console.print()
    console.print(_stage_table(result))
    console.print()
    for what, path in _files(result):
        console.print(Text(f"{what:<26}{path}"), soft_wrap=True)


def _class_table(result: TaskResult, *, coloured: bool) -> Table:
    """Classes of the map and of the truth, the largest on the map first."""
    agreement = result.agreement
    compared = agreement.accuracy is not None
    table = _table(f"{result.title} ({result.task.name})")
    table.add_column("")
    table.add_column("class", Text("all"), no_wrap=True)
    table.add_column("area ha", f"{agreement.mapped_ha:.3f}", justify="right")
    table.add_column("share", "100.0%", justify="right")
    if compared:
        table.add_column("truth ha", f"{sum(entry.true_ha or 0.0 for entry in agreement.classes):.3f}", justify="right")
        table.add_column("user's", "overall", justify="right")
        table.add_column("producer's", _percent(agreement.accuracy), justify="right")
        table.add_column("IoU", _score(agreement.mean_iou), justify="right")
    for entry in agreement.classes:
        swatch = Text("  ", style=f"on {entry.colour}") if coloured else Text(entry.colour)
        cells = [f"{entry.mapped_ha:.3f}", f"{entry.share:.1%}"]
        if compared:
            cells += [f"{entry.true_ha:.3f}", _percent(entry.users), _percent(entry.producers), _score(entry.iou)]
        table.add_row(swatch, Text(entry.name), *cells)
    return table


def _table(title: str) -> Table:
    heading = Text(title, style="bold")
    return Table(
        title=heading,
        title_justify="left",
        box=box.SIMPLE,
        show_footer=True,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )


def _percent(fraction: float | None) -> str:
    return "-" if fraction is None else f"{fraction:.1%}"


def _score(iou: float | None) -> str:
    return "-" if iou is None else f"{iou:.2f}"


def _stage_table(result: DemoResult) -> Table:
    table = _table("Time")
    table.add_column("stage", "all")
    table.add_column("seconds", f"{result.elapsed_s:.2f}", justify="right")
    table.add_column("what", f"{result.summary.tiles} tile{'s' if result.summary.tiles > 1 else ''} of the network")
    for stage, seconds in result.seconds.items():
        table.add_row(stage, f"{seconds:.2f}", _STAGES.get(stage, ""))
    return table


def _files(result: DemoResult) -> list[tuple[str, Path]]:
    """What was written, in words, and where."""
    files: list[tuple[str, Path]] = [("scene", result.scene_file)]
    for task in result.tasks:
        made = task.files
        files += [(f"{task.title}: labels", made.labels), (f"{task.title}: QGIS style", made.style)]
        if made.confidence is not None:
            files.append((f"{task.title}: confidence", made.confidence))
    return [*files, ("picture", result.picture)]
