"""What a run writes down: a table of rounds, TensorBoard's curves, weights, and the state to go on from."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

__all__ = ["Log"]

_TABLE = "rounds.csv"


class Log:
    """The numbers of a run, as a CSV table and for TensorBoard; what a restart does again is written once.

    Args:
        folder: of the run.
        step: from which it goes on; rows of later steps are dropped, for they come again.
    """

    def __init__(self, folder: Path, *, step: int) -> None:
        self._file = folder / _TABLE
        self._rows = [row for row in _read(self._file) if int(row["step"]) <= step]
        self._board = SummaryWriter(str(folder), purge_step=step + 1)

    def scalar(self, name: str, value: float, *, step: int) -> None:
        """One point of a curve, for TensorBoard alone."""
        self._board.add_scalar(name, value, step)

    def row(self, numbers: Mapping[str, float], *, step: int) -> None:
        """One round: a row of the table, and a point of each curve."""
        for name, value in numbers.items():
            self.scalar(name, value, step=step)
        self._rows.append({"step": str(step), **{name: f"{value:.6g}" for name, value in numbers.items()}})
        columns = list(dict.fromkeys(name for row in self._rows for name in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._rows)
        partial = self._file.with_name(f"{self._file.name}.partial")
        partial.write_text(text.getvalue(), encoding="utf-8")
        os.replace(partial, self._file)
        self._board.flush()

    def close(self) -> None:
        """Finish the files."""
        self._board.close()


def _read(file: Path) -> list[dict[str, str]]:
    if not file.exists():
        return []
    with file.open(encoding="utf-8", newline="") as opened:
        return [dict(row) for row in csv.DictReader(opened)]
