"""The README's table of speed, written from the newest results.

    python -m benchmarks.table

It stands between two marks, which nothing else may be written between.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.eight_bits import LIMIT
from benchmarks.marks import between
from benchmarks.records import Record, Spread, read
from benchmarks.rows import ELSEWHERE, ROWS, Row

__all__ = ["BEGIN", "END", "README", "RESULTS", "newest", "rewrite_readme", "section", "with_section"]

README = Path(__file__).resolve().parent.parent / "README.md"
RESULTS = Path(__file__).resolve().parent / "results"

BEGIN = "<!-- speed: written by `python -m benchmarks.table`, from here -->"
END = "<!-- speed: to here -->"

_NOT_YET = "not measured yet"


def newest(folder: Path = RESULTS) -> list[Record]:
    """Records of the machine that was measured last; none where no machine was.

    Raises:
        ValueError: results hold records that tell nothing.
    """
    files = sorted(folder.glob("*.json"))
    every = [(path, read(path)) for path in files]
    for path, records in every:
        if any(each.quick for each in records):
            raise ValueError(f"{path.name} holds records made with --quick, which tell nothing; run `make bench`")
    dated = [(max(each.date for each in records), path.name, records) for path, records in every if records]
    return max(dated, key=lambda each: each[:2])[2] if dated else []


def section(records: Sequence[Record]) -> str:
    """The table, and below it where it was measured."""
    by_row = {each.row: each for each in records}
    lines = ["| what | target | reached: median (quartiles) | the other side |", "| --- | --- | --- | --- |"]
    for row in ROWS:
        found = by_row.get(row.key)
        cells = (_reached(row, found), _peer(found)) if found else (_NOT_YET, "")
        lines.append(f"| {row.what} | {row.wanted} | {cells[0]} | {cells[1]} |")
    lines += [f"| {each.what} | {each.wanted} | | {each.why} |" for each in ELSEWHERE]
    return "\n".join([*lines, "", *_below(records)])


def _reached(row: Row, found: Record) -> str:
    most = "" if found.most is None else f"; at most {_number(found.most)} {row.unit} here"
    short = "" if found.eight_bits is None else f"; in 8 bits {_value(row, found.eight_bits)}"
    return f"{_value(row, found.reached)}{most}{short}"


def _value(row: Row, spread: Spread) -> str:
    quartiles = f" ({_number(spread.low)} to {_number(spread.high)})" if spread.rounds > 1 else ""
    missed = "" if row.reached(spread.median) else ", **missed**"
    return f"{_number(spread.median)} {row.unit}{quartiles}{missed}"


def _number(value: float) -> str:
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _peer(found: Record) -> str:
    return "; ".join(words for words in (found.peer, found.note) if words)


def _below(records: Sequence[Record]) -> list[str]:
    if not records:
        return ["No machine has been measured yet: `make bench` does it, in about three quarters of an hour."]
    machines = list(dict.fromkeys(each.machine for each in records))
    dates = sorted({each.date for each in records})
    when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    most = (
        ' "At most" is what our side would reach if it did nothing but its products, at the rate that this processor '
        "multiplies large matrices with."
        if any(each.most is not None for each in records)
        else ""
    )
    short = (
        f" 8-bit forms are as `uperfuse build --device cpu` makes them, which may lose {LIMIT:g} points of mean IoU."
        if any(each.eight_bits is not None for each in records)
        else ""
    )
    return [
        f"On {'; '.join(machines)}, {when}. Ratios are of rounds in which both sides take turns in one process."
        f"{most}{short} `make bench` measures your machine and writes this table."
    ]


def with_section(text: str, records: Sequence[Record]) -> str:
    """A text with the table of these records between its marks.

    Raises:
        ValueError: a mark is missing, or there twice.
    """
    return between(text, [section(records)], begin=BEGIN, end=END)


def rewrite_readme() -> None:
    """Write the table of the newest results into the README."""
    README.write_text(with_section(README.read_text(encoding="utf-8"), newest()), encoding="utf-8")


if __name__ == "__main__":
    rewrite_readme()
