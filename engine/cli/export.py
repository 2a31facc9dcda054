"""`uperfuse export`: the one command that needs the trainer, and so PyTorch."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ..errors import CheckpointError
from ..rasters import Scene

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add `export` to the command line."""
    app.command("export")(_export)


def _export(
    checkpoint: Annotated[Path, typer.Argument(help="Weights as .safetensors.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", "-o", help="The plan to write.", show_default=False)],
    config: Annotated[
        Path | None,
        typer.Option(help="YAML with what shapes cannot tell: bands, statistics, classes.", show_default=False),
    ] = None,
    scene: Annotated[
        Path | None,
        typer.Option(help="Scene file (YAML) of real rasters to check the plan on too.", show_default=False),
    ] = None,
    tile_px: Annotated[
        str | None,
        typer.Option(
            help="Side of a tile in pixels of the first image; several for a plan that takes tiles of each, 512,768: "
            "the first is its own, and larger ones map whole rasters faster.",
            show_default="as trained",
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the network.", show_default="from the file's name")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing plan.")] = False,
) -> None:
    """Turn a checkpoint into one plan file, checked against PyTorch float32."""
    try:
        export = import_module("uperfuse.trainer.export")
    except ModuleNotFoundError as error:
        raise CheckpointError(
            f"export needs {error.name}, which is not installed; export on a machine with pip install 'uperfuse[train]'"
        ) from error
    console = Console()
    report = export.export_checkpoint(
        checkpoint,
        out=out,
        config=config,
        tile_px=None if tile_px is None else _sides(tile_px),
        name=name,
        scene=None if scene is None else Scene.from_yaml(scene),
        overwrite=overwrite,
        say=console.print,
    )
    console.print(f"{out}: {report.size / 1e6:.1f} MB, plan {report.plan_hash[:12]}")


def _sides(asked: str) -> list[int]:
    try:
        return [int(side) for side in asked.split(",")]
    except ValueError:
        raise CheckpointError(
            f"--tile-px is {asked!r}, expected numbers of pixels with commas between them, such as 512,768"
        ) from None
