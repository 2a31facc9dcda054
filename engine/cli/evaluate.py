"""`uperfuse evaluate`: how right a network is on a data set; needs the trainer, and so PyTorch."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console, RenderableType
from rich.text import Text

from ..errors import CheckpointError
from .bars import counting
from .tables import console, table, titled

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add `evaluate` to the command line."""
    app.command("evaluate", no_args_is_help=True)(_evaluate)


def _evaluate(
    model: Annotated[Path, typer.Argument(help="A checkpoint (.safetensors) or a plan.", show_default=False)],
    data: Annotated[
        Path, typer.Argument(metavar="DATA", help="Folder of a data set in FLAIR-HUB's layout.", show_default=False)
    ],
    split: Annotated[str, typer.Option(help="Patches to map: train, valid or test.")] = "test",
    absent: Annotated[
        list[str] | None,
        typer.Option(help="Modality to leave out everywhere, if the network can do without. Repeat for each."),
    ] = None,
    against: Annotated[
        list[Path] | None,
        typer.Option(help="Another checkpoint or plan to compare with on the same patches. Repeat for each."),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            help="YAML with what the checkpoint does not say of itself, as for export; of a plan, the labels of tasks.",
            show_default=False,
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="Where to compute; auto takes the best there is.")] = "auto",
    precision: Annotated[
        str, typer.Option(help="Of plans: auto, float32, bf16, int8; on GPUs fp16, fp8, too. PyTorch runs in float32.")
    ] = "auto",
    batch: Annotated[int, typer.Option(min=1, help="Patches that are mapped at a time.")] = 4,
    workers: Annotated[int, typer.Option(min=0, help="Processes that read ahead; 0 reads in this one.")] = 0,
    examples: Annotated[
        int,
        typer.Option(
            min=0,
            help="How many of the best and of the worst patches of each task the page shows and the JSON file names.",
        ),
    ] = 3,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write everything that was counted here.", show_default=False)
    ] = None,
    markdown_file: Annotated[
        Path | None, typer.Option("--markdown", help="Write the tables here.", show_default=False)
    ] = None,
    html_file: Annotated[
        Path | None,
        typer.Option(
            "--html", help="Write a page with confusion matrices and the best and worst patches.", show_default=False
        ),
    ] = None,
) -> None:
    """Map the patches of a data set and compare with their labels: scores by class, domain, sensors and clear dates."""
    trainer, out = _trainer(), console()
    reports = {json_file: trainer.to_json, markdown_file: trainer.to_markdown, html_file: trainer.to_html}
    for path in reports:
        if path is not None:
            trainer.check_report_path(path)
    data_set = trainer.DataSet.open(data)
    shown = html_file is not None or json_file is not None
    found: list[Any] = []
    for place, each in enumerate((model, *(against or ()))):
        with counting(out, each.name) as progress:
            evaluation = trainer.evaluate(
                each,
                data_set,
                split=split,
                absent=tuple(absent or ()),
                config=config if place == 0 else None,
                said=found[0].said if found else None,
                device=device,
                precision=precision,
                batch=batch,
                workers=workers,
                examples=examples if shown and place == 0 else 0,
                progress=progress,
                say=lambda line: out.print(Text(line)),
            )
        found.append(evaluation)
    _print(trainer, found, out)
    for path, written in reports.items():
        if path is not None:
            trainer.write_report(path, written(found[0], found[1:]))
            out.print(Text(f"written: {path}"))


def _print(trainer: Any, found: list[Any], out: Console) -> None:
    first = found[0]
    out.print(Text(f"{first.model}: {first.runs}; {first.patches} patches of the split {first.split}"))
    for each in found:
        for remark in each.remarks:
            out.print(Text(f"{each.model}: {remark}" if len(found) > 1 else remark))
    for made in trainer.report_tables(first, found[1:]):
        out.print(titled(made.title, _rendered(made)))
        if made.note:
            out.print(Text(made.note, style="dim"))


def _rendered(made: Any) -> RenderableType:
    shown = table(*made.columns)
    for row in made.rows:
        shown.add_row(*map(Text, row))
    return shown


def _trainer() -> Any:
    try:
        return import_module("uperfuse.trainer.evaluation")
    except ModuleNotFoundError as error:
        raise CheckpointError(
            f"evaluate needs {error.name}, which is not installed; use a machine with pip install 'uperfuse[train]'"
        ) from error
