"""An evaluation as JSON and as Markdown, and files that are complete or not there."""

from __future__ import annotations

import json
import math
import os
import re
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ...engine.errors import RasterError
from ..scores import Scores
from .evaluation import Evaluation, TaskEvaluation
from .report_tables import ReportTable, report_tables

__all__ = ["check_report_path", "to_json", "to_markdown", "write_report"]

_SCHEMA = 1


def check_report_path(path: Path) -> None:
    """Refuse now what could not be written when everything is computed.

    Raises:
        RasterError: the folder is missing or cannot be written to, or the path is a folder.
    """
    if path.is_dir():
        raise RasterError(f"{path} is a folder; give the path of a file")
    folder = path.absolute().parent
    if not folder.is_dir():
        raise RasterError(f"{path} cannot be written, for there is no folder {path.parent}; make it first")
    if not os.access(folder, os.W_OK):
        raise RasterError(f"{path} cannot be written, for {path.parent} is not open to you; choose another folder")


def write_report(path: Path, text: str) -> None:
    """Write a file that is complete under its name, or not there; one of that name is replaced.

    Raises:
        RasterError: as `check_report_path`.
        OSError: the disk does not take it.
    """
    check_report_path(path)
    working = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        with working.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(working, path)
    finally:
        working.unlink(missing_ok=True)


def to_json(evaluation: Evaluation, against: Sequence[Evaluation] = ()) -> str:
    """Everything that was counted, without pictures; null where there is no number."""
    what = {"schema": _SCHEMA} | _evaluation(evaluation) | {"against": [_evaluation(each) for each in against]}
    return json.dumps(what, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def to_markdown(evaluation: Evaluation, against: Sequence[Evaluation] = ()) -> str:
    """Tables for a README or an issue."""
    return "\n".join(
        [f"# {_plain(evaluation.model)} on the split {evaluation.split}", "", *_lines(evaluation, against)]
    )


def _lines(evaluation: Evaluation, against: Sequence[Evaluation]) -> Iterator[str]:
    yield _plain(
        f"{evaluation.file}, {evaluation.kind}, {evaluation.runs}; {evaluation.patches} patches; "
        f"{evaluation.cost.parameters / 1e6:.2f} M parameters, {evaluation.cost.gflop:.2f} GFLOP a tile"
    )
    yield ""
    remarks = [f"{', '.join(evaluation.absent)} left out everywhere"] if evaluation.absent else []
    for remark in (*remarks, *evaluation.remarks):
        yield from (f"- {_plain(remark)}", "")
    for table in report_tables(evaluation, against):
        yield from (f"## {_plain(table.title)}", "", *_table(table), "")
        if table.note:
            yield from (_plain(table.note), "")


def _table(table: ReportTable) -> Iterator[str]:
    yield f"| {' | '.join(_plain(column.lstrip('>')) for column in table.columns)} |"
    yield f"| {' | '.join('---:' if column.startswith('>') else '---' for column in table.columns)} |"
    for row in table.rows:
        yield f"| {' | '.join(map(_plain, row))} |"


def _plain(words: str) -> str:
    """Words that mean nothing to Markdown or HTML."""
    return re.sub(r"([\\`*_{}\[\]<>#|&~])", r"\\\1", " ".join(words.split()))


def _evaluation(evaluation: Evaluation) -> dict[str, Any]:
    return {
        "model": evaluation.model,
        "kind": evaluation.kind,
        "file": evaluation.file,
        "runs": evaluation.runs,
        "parameters": evaluation.cost.parameters,
        "gflop": evaluation.cost.gflop,
        "modalities": evaluation.modalities,
        "absent": evaluation.absent,
        "split": evaluation.split,
        "patches": evaluation.patches,
        "counted_dates": evaluation.dates,
        "remarks": evaluation.remarks,
        "tasks": [_task(task) for task in evaluation.tasks],
    }


def _task(task: TaskEvaluation) -> dict[str, Any]:
    return {
        "name": task.name,
        "patches": task.patches,
        **_scores(task.scores),
        "classes": [
            {
                "name": entry.name,
                "iou": _number(entry.iou),
                "f1": _number(entry.f1),
                "precision": _number(entry.precision),
                "recall": _number(entry.recall),
                "pixels": entry.pixels,
            }
            for entry in task.scores.classes
        ],
        "groups": {
            grouping: [{"name": group.name, "patches": group.patches} | _scores(group.scores) for group in groups]
            for grouping, groups in task.groups.items()
        },
        "confusion": {
            "classes": [{"name": entry.name, "ignored": entry.ignored} for entry in task.classes],
            "pixels_by_true_then_mapped": task.confusion.tolist(),
        },
        "best": [{"patch": each.patch} | _scores(each.scores) for each in task.best],
        "worst": [{"patch": each.patch} | _scores(each.scores) for each in task.worst],
    }


def _scores(scores: Scores) -> dict[str, Any]:
    return {
        "mean_iou": _number(scores.mean_iou),
        "mean_f1": _number(scores.mean_f1),
        "accuracy": _number(scores.accuracy),
        "pixels": scores.pixels,
    }


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value
