"""A confusion matrix as it is drawn: which classes it shows, and the words of each cell."""

from __future__ import annotations

from dataclasses import dataclass

from .evaluation import TaskEvaluation

__all__ = ["Cell", "Matrix", "matrix_of"]

_CELL_PX = 24
_LETTER_PX = 6.3
_GAP_PX = 8


@dataclass(frozen=True)
class Cell:
    """One true class mapped as one class.

    Attributes:
        x: of its left side in pixels of the drawing, as y of its upper one.
        share: of the pixels of the true class, 0 to 1.
        right: true and mapped class are the same.
        label: the share in percent; "" where it is too small to be read.
        words: what is shown when the pointer rests on it.
    """

    x: float
    y: float
    share: float
    right: bool
    label: str
    words: str


@dataclass(frozen=True)
class Matrix:
    """A drawing: rows are true classes, columns mapped ones.

    Attributes:
        rows: name and y of each.
        columns: name and x of each.
        cells: those with pixels.
        left: width of the names of rows; top is the height of the names of columns.
        width: of everything, as height.
        cell: side of a cell.
    """

    rows: tuple[tuple[str, float], ...]
    columns: tuple[tuple[str, float], ...]
    cells: tuple[Cell, ...]
    left: float
    top: float
    width: float
    height: float
    cell: int = _CELL_PX


def matrix_of(task: TaskEvaluation) -> Matrix:
    """Lay out the matrix of one task.

    Rows are evaluated classes that are true somewhere; columns these and what else was mapped there.
    """
    evaluated = [value for value, entry in enumerate(task.classes) if not entry.ignored]
    counts = task.confusion
    rows = [value for value in evaluated if counts[value].any()]
    mapped = counts[rows].sum(0)
    columns = [value for value in range(len(task.classes)) if value in rows or mapped[value]]
    names = [entry.name for entry in task.classes]
    longest = max((len(names[value]) for value in {*rows, *columns}), default=0)
    left = top = longest * _LETTER_PX + _GAP_PX
    cells = []
    for row, true in enumerate(rows):
        total = int(counts[true].sum())
        for column, found in enumerate(columns):
            pixels = int(counts[true, found])
            if not pixels:
                continue
            share = pixels / total
            words = f"true {names[true]}, mapped as {names[found]}: {pixels:,} pixels, {share:.2%} of the class"
            label = f"{100 * share:.0f}" if share >= 0.005 else ""
            cells.append(Cell(left + column * _CELL_PX, top + row * _CELL_PX, share, true == found, label, words))
    return Matrix(
        rows=tuple((names[value], top + place * _CELL_PX) for place, value in enumerate(rows)),
        columns=tuple((names[value], left + place * _CELL_PX) for place, value in enumerate(columns)),
        cells=tuple(cells),
        left=left,
        top=top,
        width=left + len(columns) * _CELL_PX + 1,
        height=top + len(rows) * _CELL_PX + 1,
    )
