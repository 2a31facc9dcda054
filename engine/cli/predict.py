"""`uperfuse predict`: rasters to maps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..cluster import open_cluster, predict_on_cluster
from ..engine import Engine
from ..errors import RasterError
from ..plan.plan import Plan
from ..rasters import Begin, MapOptions, MapSummary, Scene, map_with_engine
from ..rasters.tile_choice import choose_tile, parse_bytes

__all__ = ["register"]

_AUTO = "auto"


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("predict", no_args_is_help=True)(_predict)


def _predict(
    plan: Annotated[Path, typer.Argument(help="The .plan file.", show_default=False)],
    scene: Annotated[
        Path | None, typer.Argument(help="A scene file (YAML) in place of --input and its like.", show_default=False)
    ] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option("--input", help="Raster of a modality: AERIAL_RGBI=ortho.tif. Repeat for each."),
    ] = None,
    dates: Annotated[
        list[str] | None,
        typer.Option("--dates", help="Dates of a series, one a line: SENTINEL2_TS=dates.txt."),
    ] = None,
    masks: Annotated[
        list[str] | None,
        typer.Option("--mask", help="Snow and cloud in percent for each date of a series: SENTINEL2_TS=mask.tif."),
    ] = None,
    bands: Annotated[
        list[str] | None,
        typer.Option(
            "--bands",
            help="Names of a file's bands in its order, AERIAL_RGBI=NIR,G,B,R, or numbers of the bands that the plan "
            "takes, in the plan's order, AERIAL_RGBI=1,4,2.",
        ),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the maps.")] = Path("out"),
    device: Annotated[str, typer.Option(help="Where to compute; auto takes the best there is.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, float32, bf16, int8; on GPUs fp16, fp8, too.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="Processor threads.")] = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            help="Map with many processes: local:4 for four of this machine, a YAML file of settings for Slurm, or the "
            "address of a Dask scheduler, tcp://node1:8786.",
        ),
    ] = None,
    halo_px: Annotated[
        int | None, typer.Option("--halo", help="Rim of a tile that only gives context, in pixels.")
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(
            help="Memory that the run may take, 4GB, or each of its processes: of the plan's tiles the cheapest that "
            "fit are taken.",
            show_default="half of what is free, where the plan has tiles of several sides",
        ),
    ] = None,
    tile_px: Annotated[
        int | None,
        typer.Option(
            help="Side of a tile in pixels of the first image, one of the plan's.", show_default="chosen by its cost"
        ),
    ] = None,
    readers: Annotated[
        str,
        typer.Option(
            help="Processes that read the rasters ahead; 1 reads in this process; auto begins so, and starts "
            "as many as keep up where reading sets the pace."
        ),
    ] = _AUTO,
    blend_px: Annotated[
        int,
        typer.Option(
            "--blend",
            help="Mix neighbouring tiles up to this many pixels from their seams, at most the halo. It costs time and, "
            "until the maps are finished, disk: two bytes for each class of a pixel near a seam, of every tile there.",
        ),
    ] = 0,
    prime_cache: Annotated[
        Path | None,
        typer.Option(help="Folder in which encoded series are kept and looked for; the map is the same without it."),
    ] = None,
    area: Annotated[
        Path | None,
        typer.Option("--aoi", help="Vector file of polygons; the rest of the map is void and is not computed."),
    ] = None,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Also write the probability of each class.")
    ] = False,
    no_confidence: Annotated[bool, typer.Option("--no-confidence", help="Do not write the confidence.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace maps that exist.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was interrupted.")] = False,
    restart: Annotated[bool, typer.Option("--restart", help="Throw away a run that was interrupted.")] = False,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", help="Leave tiles void that cannot be read, and list them.")
    ] = False,
    allow_ungeoreferenced: Annotated[
        bool, typer.Option("--allow-ungeoreferenced", help="Map a single raster without CRS in its own pixels.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
) -> None:
    """Map the rasters of a scene: land cover, crops or whatever the plan was trained for."""
    if resume and restart:
        raise RasterError("--resume goes on with a run and --restart throws it away; give one of them")
    begin: Begin = "resume" if resume else "restart" if restart else "new"
    what = _scene(scene, inputs or [], dates=dates or [], masks=masks or [], bands=bands or [])
    console = Console(quiet=quiet, highlight=False, soft_wrap=True)  # errors have standard error to themselves
    options = MapOptions(
        halo_px=halo_px,
        blend_px=blend_px,
        area=area,
        confidence=not no_confidence,
        probabilities=probabilities,
        readers=_readers(readers),
        memory_bytes=None if memory is None else parse_bytes(memory),
        keep_going=keep_going,
        allow_ungeoreferenced=allow_ungeoreferenced,
    )

    def say(sentence: str) -> None:
        console.print(sentence, markup=False)

    def run(map_with: Callable[..., MapSummary]) -> MapSummary:
        return map_with(what, out, options, overwrite=overwrite, begin=begin, progress=not quiet, report=say)

    if memory is not None and not _on_processor(device):
        raise RasterError(
            f"--memory is {memory}, and chooses tiles for a processor, while a GPU may run this; leave it out, or give "
            "--device cpu"
        )
    if _on_processor(device):
        with Plan.open(plan) as opened:
            choice = choose_tile(opened, what, options, tile_px=tile_px, precision=precision, threads=threads)
        tile_px, options = choice.tile_px, choice.options
        if choice.why:
            say(choice.why)
    if cluster is None:
        with Engine.load(
            plan, device=device, precision=precision, threads=threads, tile_px=tile_px, prime_cache=prime_cache
        ) as engine:
            say(engine.describe())
            summary = run(partial(map_with_engine, engine))
    else:
        with open_cluster(cluster, threads=threads) as connected:
            say(f"workers: {connected.dashboard}")
            with_cluster = partial(predict_on_cluster, connected, plan, tile_px=tile_px, prime_cache=prime_cache)
            summary = run(partial(with_cluster, device=device, precision=precision))
    _print_summary(summary, console)


def _on_processor(device: str) -> bool:
    """Whether nothing but the processor can run the plan: a GPU has its memory for itself, and engines for one side."""
    return device == "cpu" or (device == "auto" and find_spec("pycuda") is None)


def _readers(said: str) -> int | None:
    """Number of readers; None for as many as keep up."""
    if said == _AUTO:
        return None
    try:
        return int(said)
    except ValueError:
        raise RasterError(f"--readers is {said}, expected {_AUTO} or a number of processes") from None


def _scene(file: Path | None, inputs: list[str], *, dates: list[str], masks: list[str], bands: list[str]) -> Scene:
    if file is None and not inputs:
        raise RasterError("no raster is given, expected a scene file or --input MODALITY=FILE; name what to map")
    if file is None:
        return Scene.from_options(inputs, dates=dates, masks=masks, bands=bands)
    if inputs or dates or masks or bands:
        raise RasterError(
            f"a scene file ({file}) and options of a scene (--input, --dates, --mask, --bands) are both given; "
            "write everything into the file, or use options only"
        )
    return Scene.from_yaml(file)


def _print_summary(summary: MapSummary, console: Console) -> None:
    for task, pixels in summary.pixels.items():
        console.print(_class_table(task, pixels, summary.areas_ha.get(task)))
    void = f", {summary.void_tiles} of them void and not computed" if summary.void_tiles else ""
    console.print(f"{summary.tiles} tiles{void}; {summary.void_fraction:.1%} of the map is void")
    console.print(summary.stages())
    for files in summary.files.values():
        for path in files:
            console.print(str(path), markup=False)


def _class_table(task: str, pixels: Mapping[str, int], areas_ha: Mapping[str, float] | None) -> Table:
    """Classes that occur, the largest first."""
    table = Table(title=task)
    table.add_column("class", no_wrap=True)
    table.add_column("pixels" if areas_ha is None else "area (ha)", justify="right")
    table.add_column("share", justify="right")
    total = sum(pixels.values())
    for name, count in sorted(pixels.items(), key=lambda entry: -entry[1]):
        if count:
            amount = f"{count:,}" if areas_ha is None else f"{areas_ha[name]:,.4f}"
            table.add_row(escape(name), amount, f"{count / total:.1%}")
    return table
