"""All rows that a processor can keep, each program in a process of its own; what `make bench` runs.

    python -m benchmarks.run [--only tile --only load] [--quick]

Records go to `benchmarks/results/<machine>.json`, and from there into the README. With `--quick` they go to
`build/benchmarks-quick.json` and nowhere else: tiny settings prove that the programs run, and tell nothing. A program
that fails leaves its rows as they were, is named at the end, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.records import Record, read, write
from benchmarks.rows import ROWS
from benchmarks.table import RESULTS, rewrite_readme
from uperfuse.engine.benchmark import machine

__all__ = ["PROGRAMS", "machine_file", "merge", "run_program"]

ROOT = Path(__file__).resolve().parent.parent
QUICK = ROOT / "build" / "benchmarks-quick.json"

PROGRAMS = tuple(dict.fromkeys(row.program for row in ROWS))
"""Of this folder, in the rows' order."""


def machine_file(words: str) -> str:
    """Name of a machine's file: its words but the Python's, in what every file system takes."""
    parts = [part for part in words.split(", ") if not part.startswith("Python")]
    return re.sub(r"[^a-z0-9]+", "-", " ".join(parts).lower()).strip("-") + ".json"


def run_program(name: str, *, quick: bool) -> list[Record] | None:
    """Records of one program, or None where it failed; what it says goes to the terminal."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "records.json"
        command = [sys.executable, "-m", f"benchmarks.{name}", "--json", str(out), *(["--quick"] if quick else [])]
        print(f"\n== {name}", flush=True)
        if subprocess.run(command, cwd=ROOT, check=False).returncode:
            return None
        return read(out)


def merge(before: Iterable[Record], found: Iterable[Record]) -> list[Record]:
    """Records in the rows' order; of a row that was measured anew, the new one."""
    by_row = {each.row: each for each in (*before, *found)}
    return [by_row[row.key] for row in ROWS if row.key in by_row]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, keep, and rewrite the README."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=PROGRAMS, help="one program; may be repeated")
    parser.add_argument("--quick", action="store_true", help="tiny settings, of no meaning")
    asked = parser.parse_args(arguments)
    out = QUICK if asked.quick else RESULTS / machine_file(machine())
    kept = read(out) if out.exists() and not asked.quick else []
    measured = 0
    failed = []
    for name in asked.only or PROGRAMS:
        records = run_program(name, quick=asked.quick)
        if records is None:
            failed.append(name)
            continue
        kept = merge(kept, records)
        measured += len(records)
        write(kept, out)  # at once: whatever stops the next program, these rows are there
    if measured:
        print(f"\n{measured} rows in {out.relative_to(ROOT)}")
    if not asked.quick:
        rewrite_readme()
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
