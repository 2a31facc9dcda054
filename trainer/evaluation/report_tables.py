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
    """One column for each network, so that names of tasks have room."""
    tasks = dict.fromkeys(task.name for each in evaluations for task in each.tasks)
    rows = [
        ("runs on", *(each.runs for each in evaluations)),
        ("parameters", *(f"{each.cost.parameters / 1e6:.2f} M" for each in evaluations)),
        ("GFLOP a tile", *(f"{each.cost.gflop:.2f}" for each in evaluations)),
    ]
    for name in tasks:
        found = [each.task(name) for each in evaluations]
        scores = [(percent(t.scores.mean_iou), percent(t.scores.accuracy)) if t else ("-", "-") for t in found]
        rows.append((f"{name}: mIoU %", *(mean_iou for mean_iou, _ in scores)))
        rows.append((f"{name}: accuracy %", *(accuracy for _, accuracy in scores)))
    return ReportTable(
        "Compared on the same patches",
        ("Network", *(f">{each.model} ({each.file})" for each in evaluations)),
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
