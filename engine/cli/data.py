"""`uperfuse data`: data sets for training, checked or simulated; needs the trainer, and so PyTorch."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from ..errors import CheckpointError
from .bars import counting
from .tables import console, count, table, titled

__all__ = ["register"]

_SPLITS = ("train", "valid", "test")
_Workers = Annotated[int, typer.Option(min=1, help="Processes.")]


def register(app: typer.Typer) -> None:
    """Add `data` and its commands to the command line."""
    data = typer.Typer(no_args_is_help=True, help="Data sets for training, in FLAIR-HUB's layout.")
    data.command("check")(_check)
    data.command("simulate")(_simulate)
    data.command("import-flair1")(_import_flair1)
    app.add_typer(data, name="data")


def _check(
    root: Annotated[Path, typer.Argument(metavar="ROOT", help="Folder of the data set.", show_default=False)],
    workers: _Workers = 1,
) -> None:
    """Read every file of a data set; list what is broken, and count classes and domains. Exits with 1 if it is."""
    trainer, out = _trainer(), console()
    with counting(out, "patches") as progress:
        report = trainer.check(root, workers=workers, progress=progress)
    out.print(titled("Domains", _domains(report)))
    out.print(titled("Classes", _classes(report)))
    for remark in report.remarks:
        out.print(Text(f"remark: {remark}"))
    if report.defects:
        defects = table(">", "Defect")
        for number, defect in enumerate(report.defects, start=1):
            defects.add_row(str(number), Text(defect))
        out.print(titled("Defects", defects))
    report.require()
    out.print(Text("\nnothing is broken"))


def _simulate(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="ROOT", help="Folder to make.", show_default=False)],
    patches: Annotated[int, typer.Option(help="Patches of 102.4 m.")] = 40,
    seed: Annotated[int, typer.Option(min=0, help="Chance of everything.")] = 2025,
    workers: _Workers = 1,
) -> None:
    """Write a data set of the simulated world: ten rasters a patch, labels of both tasks, split files and dates."""
    trainer, screen = _trainer(), console()
    with counting(screen, "patches") as progress:
        made = trainer.simulate_data_set(out, patches=patches, seed=seed, workers=workers, progress=progress)
    for name, split in made.splits.items():
        screen.print(Text(f"{name}: {len(split.patches)} patches of {', '.join(split.domains)}"))


def _import_flair1(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Images and masks of FLAIR #1.", show_default=False)],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="ROOT", help="Data set that grows, or is made.", show_default=False)
    ],
    split: Annotated[str, typer.Option(help="train, valid or test.")] = "train",
) -> None:
    """Copy images and masks of FLAIR #1 into a data set, under FLAIR-HUB's names and classes."""
    if split not in _SPLITS:
        raise CheckpointError(f"there is no split {split}, expected one of {', '.join(_SPLITS)}; choose one")
    made = _trainer().import_flair1(folder, out, split=split)
    for name, each in made.splits.items():
        console().print(Text(f"{name}: {len(each.patches)} patches of {', '.join(each.domains)}"))


def _trainer() -> Any:
    try:
        return import_module("uperfuse.trainer.data")
    except ModuleNotFoundError as error:
        raise CheckpointError(
            f"data needs {error.name}, which is not installed; use a machine with pip install 'uperfuse[train]'"
        ) from error


def _domains(report: Any) -> Any:
    """Patches of each domain, and how many of them lack something."""
    made = table("|Split", "|Domain", ">Patches", "Without")
    for entry in report.domains:
        lacking = {name: entry.patches - held for name, held in entry.products.items() if held < entry.patches}
        words = ", ".join(f"{name} ({number})" for name, number in lacking.items())
        made.add_row(entry.split, entry.domain, str(entry.patches), Text(words))
    return made


def _classes(report: Any) -> Any:
    """Pixels of each class by split, and the number of domains that have it."""
    splits = [name for name in _SPLITS if any(name in entry.pixels for entry in report.classes)]
    made = table("Class", *(f">{title}" for name in splits for title in (f"{name}: pixels", "domains")))
    task = ""
    for entry in report.classes:
        if entry.task != task:
            made.add_row(Text(entry.task, style="bold"))
            task = entry.task
        cells = [text for name in splits for text in (count(entry.pixels[name]), str(entry.domains[name]))]
        made.add_row(f"  {entry.name}", *cells)
    return made
