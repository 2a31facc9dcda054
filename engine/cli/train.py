"""`uperfuse train`: weights from a data set, as a YAML file says; needs the trainer, and so PyTorch."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from ..errors import CheckpointError
from .bars import counting
from .tables import console

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add `train` to the command line."""
    app.command("train")(_train)


def _train(
    config: Annotated[
        str,
        typer.Argument(
            metavar="CONFIG",
            help="YAML file, or the name of a published experiment, such as LC-F.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="Folder of the run.", show_default=False)],
    data: Annotated[
        Path | None, typer.Option("--data", metavar="ROOT", help="Folder of the data set, if the file names none.")
    ] = None,
    start: Annotated[Path | None, typer.Option("--start", metavar="CHECKPOINT", help="Weights to begin with.")] = None,
    teacher: Annotated[
        Path | None, typer.Option("--teacher", metavar="CHECKPOINT", help="A larger network to learn from.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in the folder.")] = False,
    accelerator: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    devices: Annotated[int, typer.Option(min=1, help="GPUs, or processes on processors, of each node.")] = 1,
    nodes: Annotated[int, typer.Option(min=1, help="Machines that train together.")] = 1,
    workers: Annotated[int | None, typer.Option(min=0, help="Processes that load data, for each that trains.")] = None,
) -> None:
    """Train a network: best.safetensors, which `uperfuse export` takes, and tables of how it went."""
    training = _trainer()
    screen = console()
    read = training.read_config(config, data=data, start=start, teacher=teacher, workers=workers)
    with counting(screen, "steps") as progress:
        outcome = training.train(
            read,
            out=out,
            machines=training.Machines(accelerator=accelerator, devices=devices, nodes=nodes),
            resume=resume,
            say=lambda line: screen.print(Text(line)),
            progress=progress,
        )
    screen.print(Text(f"{outcome.weights}: uperfuse export {outcome.weights} makes a plan of it"))


def _trainer() -> Any:
    try:
        return import_module("uperfuse.trainer.training")
    except ModuleNotFoundError as error:
        raise CheckpointError(
            f"train needs {error.name}, which is not installed; use a machine with pip install 'uperfuse[train]'"
        ) from error
