"""An evaluation as one page that needs nothing but itself: no network, no script, no other file."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from numpy.typing import NDArray
from PIL import Image

from ...engine.demo.panels import VOID_COLOUR
from ...engine.plan.network import ClassEntry
from ...engine.prediction import VOID
from .evaluation import Evaluation, Example, TaskEvaluation
from .groups import Grouping
from .matrix import Matrix, matrix_of
from .report_tables import ReportTable, comparison_table, group_tables, percent

__all__ = ["to_html"]

_JPEG_QUALITY = 88
_LARGEST_BAR = 100.0


@dataclass(frozen=True)
class _ClassRow:
    """One class that occurs: its words, and the lengths of its bars in percent."""

    name: str
    colour: str
    bar: float
    words: tuple[str, ...]
    pixels: str


@dataclass(frozen=True)
class _Group:
    """A table of groups under a title of its own, with bars of mIoU."""

    grouping: Grouping
    title: str
    table: ReportTable
    bars: tuple[float, ...]


@dataclass(frozen=True)
class _Shown:
    """An example with its pictures as `data:` addresses."""

    patch: str
    seen: str
    accuracy: str
    mean_iou: str
    picture: str
    truth: str
    found: str


@dataclass(frozen=True)
class _Section:
    """Everything of one task."""

    task: TaskEvaluation
    anchor: str
    mean_iou: str
    accuracy: str
    mean_f1: str
    pixels: str
    rows: tuple[_ClassRow, ...]
    never: tuple[str, ...]
    matrix: Matrix
    groups: tuple[_Group, ...]
    examples: tuple[tuple[str, tuple[_Shown, ...]], ...]
    legend: tuple[ClassEntry, ...]
    void: bool


def to_html(evaluation: Evaluation, against: Sequence[Evaluation] = ()) -> str:
    """A page to look at, light or dark as its reader likes it.

    Args:
        evaluation: with the examples that are shown.
        against: others, for a table that compares them.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html").render(
        evaluation=evaluation,
        comparison=comparison_table([evaluation, *against]) if against else None,
        sections=[_section(evaluation, task, f"task-{number}") for number, task in enumerate(evaluation.tasks)],
        void_colour=f"rgb{VOID_COLOUR}",
    )


def _section(evaluation: Evaluation, task: TaskEvaluation, anchor: str) -> _Section:
    colours = {entry.name: entry.colour for entry in task.classes}
    occurring = {entry.name for entry in task.scores.classes}
    shown = (*task.best, *task.worst)
    values = {int(value) for each in shown for raster in (each.truth, each.found) for value in np.unique(raster)}
    kinds = (("Mapped best", task.best), ("Mapped worst", task.worst))
    return _Section(
        task=task,
        anchor=anchor,
        mean_iou=percent(task.scores.mean_iou),
        accuracy=percent(task.scores.accuracy),
        mean_f1=percent(task.scores.mean_f1),
        pixels=f"{task.scores.pixels / 1e6:.1f} M" if task.scores.pixels >= 1e6 else f"{task.scores.pixels:,}",
        rows=tuple(
            _ClassRow(
                entry.name,
                colours[entry.name],
                _bar(entry.iou),
                tuple(map(percent, (entry.iou, entry.f1, entry.precision, entry.recall))),
                f"{entry.pixels:,}",
            )
            for entry in task.scores.classes
        ),
        never=tuple(entry.name for entry in task.classes if not entry.ignored and entry.name not in occurring),
        matrix=matrix_of(task),
        groups=tuple(_groups(evaluation, task)),
        examples=tuple((title, tuple(_show(each, task) for each in some)) for title, some in kinds if some),
        legend=tuple(entry for value, entry in enumerate(task.classes) if value in values),
        void=VOID in values,
    )


def _groups(evaluation: Evaluation, task: TaskEvaluation) -> Iterator[_Group]:
    told = [(grouping, groups) for grouping, groups in task.groups.items() if groups]
    for (grouping, groups), table in zip(told, group_tables(evaluation, task), strict=True):
        bars = tuple(_bar(group.scores.mean_iou) for group in groups)
        yield _Group(grouping, _alone(table.title, task), table, bars)


def _alone(title: str, task: TaskEvaluation) -> str:
    """A title without the task, which stands above."""
    rest = title.removeprefix(task.name).strip()
    return rest[:1].upper() + rest[1:]


def _bar(fraction: float) -> float:
    return 0.0 if math.isnan(fraction) else round(_LARGEST_BAR * fraction, 2)


def _show(example: Example, task: TaskEvaluation) -> _Shown:
    return _Shown(
        patch=example.patch,
        seen=example.seen,
        accuracy=percent(example.scores.accuracy),
        mean_iou=percent(example.scores.mean_iou),
        picture=_photograph(example.picture),
        truth=_map(example.truth, task),
        found=_map(example.found, task),
    )


def _photograph(picture: NDArray[np.uint8]) -> str:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="JPEG", quality=_JPEG_QUALITY)
    return _address("image/jpeg", buffer)


def _map(labels: NDArray[np.uint8], task: TaskEvaluation) -> str:
    """Labels [Y, X] in the colours of their classes: a picture with a palette, a few kilobytes."""
    palette = np.full((VOID + 1, 3), VOID_COLOUR, np.uint8)
    for value, entry in enumerate(task.classes):
        palette[value] = tuple(bytes.fromhex(entry.colour.removeprefix("#")))
    image = Image.fromarray(labels).convert("L")
    image.putpalette(palette.tobytes())
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return _address("image/png", buffer)


def _address(kind: str, buffer: io.BytesIO) -> str:
    return f"data:{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
