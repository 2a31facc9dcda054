"""What a row's program found: a small record that is kept as JSON."""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from uperfuse.engine.benchmark import machine

from .rows import row_of

__all__ = ["Record", "Spread", "hand_over", "options", "read", "record", "write"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Spread(_Frozen):
    """Median and quartiles of the values of all rounds."""

    median: float
    low: float
    high: float
    rounds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of some values; one alone is all three."""
        if len(values) == 1:
            return cls(median=values[0], low=values[0], high=values[0], rounds=1)
        low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median=middle, low=low, high=high, rounds=len(values))


class Record(_Frozen):
    """One row, as it was measured.

    Attributes:
        row: key of the row.
        name: what the row measures, in words.
        target: what it promises, in words.
        reached: in the row's unit; of a ratio, over rounds in which both sides took turns.
        ours: our side, in words.
        peer: the other side, in words; empty where the value is absolute.
        note: how the value came about, where it is not the ratio of two times as they were.
        most: what our side would reach if it did nothing but its products at this processor's rate; None where that was
            not asked. See `product_rate`.
        eight_bits: what the plan's 8-bit form reached; None where that was not measured.
        machine: processor and system.
        date: of the measurement, YYYY-MM-DD.
        quick: made with tiny settings to prove that the program runs; tells nothing.
    """

    row: str
    name: str
    target: str
    reached: Spread
    ours: str
    peer: str
    note: str
    most: float | None = None
    eight_bits: Spread | None = None
    machine: str
    date: str
    quick: bool


def record(
    key: str,
    values: Sequence[float],
    *,
    ours: str,
    peer: str = "",
    note: str = "",
    most: float | None = None,
    eight_bits: Sequence[float] | None = None,
    quick: bool,
) -> Record:
    """The record of a row, as of now and here.

    Args:
        key: of the row.
        values: one per round, in the row's unit.
        ours: our side, in words.
        peer: the other side.
        note: what else must be known.
        most: what this processor's products allow.
        eight_bits: as `values`, of the plan's 8-bit form.
        quick: made with tiny settings.
    """
    row = row_of(key)
    return Record(
        row=key,
        name=row.what,
        target=row.wanted,
        reached=Spread.of(values),
        ours=ours,
        peer=peer,
        note=note,
        most=most,
        eight_bits=Spread.of(eight_bits) if eight_bits else None,
        machine=machine(),
        date=datetime.now(timezone.utc).date().isoformat(),
        quick=quick,
    )


def options(description: str | None, *, rounds: int) -> argparse.ArgumentParser:
    """What every row's program takes."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=rounds, help="in which the sides take turns")
    parser.add_argument("--quick", action="store_true", help="tiny settings: proves that it runs, and tells nothing")
    parser.add_argument("--json", type=Path, help="file for the records")
    return parser


def hand_over(records: Iterable[Record], path: Path | None) -> None:
    """Print records and, where asked for, write them."""
    found = list(records)
    for each in found:
        row, spread = row_of(each.row), each.reached
        said = _said(spread, row.unit)
        short = f"; in 8 bits {_said(each.eight_bits, row.unit)}" if each.eight_bits else ""
        most = f"; {each.most:.3g} {row.unit} if products alone took time" if each.most is not None else ""
        quick = "; quick, tells nothing" if each.quick else ""
        print(f"{each.row}: {said}, wanted {each.target}{most}{short}{quick}")
    if path is not None:
        write(found, path)


def _said(spread: Spread, unit: str) -> str:
    return f"{spread.median:.3g} {unit} ({spread.low:.3g} to {spread.high:.3g}, {spread.rounds} rounds)"


def write(records: Sequence[Record], path: Path) -> None:
    """Keep records as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    listed = [each.model_dump() for each in records]
    path.write_text(json.dumps(listed, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read(path: Path) -> list[Record]:
    """Records that were kept."""
    return [Record.model_validate(each) for each in json.loads(path.read_text(encoding="utf-8"))]
