"""What every report says in tables: the terminal, Markdown and the page."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from .cost import COUNTED_DATES
from .evaluation import Evaluation, GroupScores, TaskEvaluation
from .groups import Grouping

__all__ = ["ReportTable", "class_table", "comparison_table", "group_tables", "percent", "report_tables"]

_FIRST: Mapping[Grouping, str] = {"domain": "Domain", "modalities": "Modalities", "dates": "Clear dates"}


@dataclass(frozen=True)
class ReportTable:
    """Words in rows.

    Attributes:
        title: above it.
        columns: their titles; `>` before one aligns it to the right.
        rows: as many words as columns each.
        note: a sentence below it, or "".
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def report_tables(evaluation: Evaluation, against: Sequence[Evaluation] = ()) -> list[ReportTable]:
    """All tables of an evaluation, and one that compares it with others if there are any."""
    made = [comparison_table([evaluation, *against])] if against else []
    for task in evaluation.tasks:
        made += [class_table(task), *group_tables(evaluation, task)]
    return made


def comparison_table(evaluations: Sequence[Evaluation]) -> ReportTable:
    """One row for each network."""
    tasks = list(dict.fromkeys(task.name for each in evaluations for task in each.tasks))
    titles = (f">{task}: {what} %" for task in tasks for what in ("mIoU", "accuracy"))
    rows = []
    for each in evaluations:
        scores = []
        for name in tasks:
            task = each.task(name)
            scores += ["-", "-"] if task is None else [percent(task.scores.mean_iou), percent(task.scores.accuracy)]
        cost = f"{each.cost.parameters / 1e6:.2f} M", f"{each.cost.gflop:.2f}"
        rows.append((f"{each.model} ({each.file})", each.runs, *cost, *scores))
    return ReportTable(
        "Compared on the same patches",
        ("Network", "Runs on", ">Parameters", ">GFLOP a tile", *titles),
        tuple(rows),
        f"GFLOP of all encoders and decoders for one tile with every modality, a multiply-add being two operations, "
        f"series at {COUNTED_DATES} dates.",
    )


def class_table(task: TaskEvaluation) -> ReportTable:
    """One row for each evaluated class that occurs, and their mean."""
    scores = task.scores
    rows = [
        (entry.name, *map(percent, (entry.iou, entry.f1, entry.precision, entry.recall)), f"{entry.pixels:,}")
        for entry in scores.classes
    ]
    mean = f"mean of {len(rows)} classes"
    rows.append((mean, percent(scores.mean_iou), percent(scores.mean_f1), "", "", f"{scores.pixels:,}"))
    return ReportTable(
        f"{task.name}: mIoU {percent(scores.mean_iou)} %, accuracy {percent(scores.accuracy)} %",
        ("Class", ">IoU %", ">F1 %", ">Precision %", ">Recall %", ">Pixels"),
        tuple(rows),
    )


def group_tables(evaluation: Evaluation, task: TaskEvaluation) -> Iterator[ReportTable]:
    """One table for each grouping that has groups."""
    titles: Mapping[Grouping, str] = {
        "domain": f"{task.name} by domain",
        "modalities": f"{task.name} by modalities that are there",
        "dates": f"{task.name} by clear dates of {evaluation.dates}",
    }
    for grouping, groups in task.groups.items():
        if groups:
            columns = (_FIRST[grouping], ">Patches", ">mIoU %", ">Accuracy %", ">Pixels")
            yield ReportTable(titles[grouping], columns, tuple(map(_group_row, groups)))


def percent(fraction: float) -> str:
    """`51.76`, or `-` where there is none."""
    return "-" if math.isnan(fraction) else f"{100 * fraction:.2f}"


def _group_row(group: GroupScores) -> tuple[str, ...]:
    scores = group.scores
    return group.name, str(group.patches), percent(scores.mean_iou), percent(scores.accuracy), f"{scores.pixels:,}"
