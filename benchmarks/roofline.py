"""Floors of every kernel and segment on every board: arithmetic from published peak rates, not measurement.

    python -m benchmarks.roofline [--network LC-F ...] [--board H100 ...] [--markdown FILE]

Without options all networks and boards go to the terminal.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich import box
from rich.console import Console
from rich.table import Table

from .kernels.cases import shapes_of
from .networks import DATES, NETWORKS
from .peaks import PEAKS, Load, Peak
from .work import Work, work_of_segments, work_of_shape

__all__ = ["DTYPE", "Grid", "floors", "grids", "markdown", "works"]

DTYPE = torch.bfloat16
"""Of activations and weights."""

_LABEL = "arithmetic, not measurement"
_HEAD = f"""# Roofline on paper

**Every figure here is arithmetic, not measurement.** Nothing was timed: the tables say what cannot be beaten by whoever
computes the same, and nothing about what ours reaches. `python -m benchmarks.roofline --markdown docs/roofline.md`
writes this page, and a test compares it with what is computed anew.

One tile of FLAIR-HUB's LC-F and LC-L (Swin-B, UPerNet): an aerial image of 512 px, series of {DATES} dates, a batch of
one, activations and weights of two bytes.

- **Floor**: the largest of bytes / bandwidth, matrix operations / matrix peak and vector operations / vector peak, each
  over the whole row. Memory is cold: what a cache still holds is not taken into account.
- **Fused bytes of a kernel**: every array of its declaration (`KernelSpec`) once, over all launches of a tile.
  `pyramid_fusion` projects while it sums, as networks do; "sum alone" is what a plan runs, whose encoders projected.
- **Fused bytes of a segment**: every kernel, matrix product and convolution reads its operands once, its weights among
  them, and writes its result once; normalisations, activations, additions, resizes, padding and copies in between are
  free. This is what an engine reaches at best that runs the network product by product. Segments contain the kernels
  that run in them: the tables do not add up.
- **Unfused bytes**: what every operation of plain PyTorch reads and writes for the reference, one launch each
  (`benchmarks/unfused.py`).
- **Matrix operations**: two per multiply-add of products and convolutions. **Vector operations**: one per element of
  the largest array of every other operation that computes. Those that take several per element are undercounted. Both
  are the reference's for a kernel, too. A segment computes less where its kernels need no padding.
"""


@dataclass(frozen=True)
class Grid:
    """A table, for the terminal and for a document."""

    title: str
    head: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()

    def to_markdown(self) -> str:
        """As text that GitHub shows as a table."""
        rule = ("---", *("---:" for _ in self.head[1:]))
        table = "\n".join(f"| {' | '.join(line)} |" for line in (self.head, rule, *self.lines))
        notes = "".join(f"- {note}\n" for note in self.notes)
        return f"## {self.title}\n\n{table}\n" + (f"\n{notes}" if notes else "")

    def to_rich(self) -> Table:
        """As rich draws it."""
        table = Table(
            title=self.title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title_justify="left", title_style="bold"
        )
        for place, name in enumerate(self.head):
            table.add_column(name, justify="right" if place else "left", no_wrap=not place)
        for line in self.lines:
            table.add_row(*line)
        return table


def works(network: str) -> tuple[dict[str, Work], dict[str, Work]]:
    """Kernels and segments of a network, by name.

    Args:
        network: its name in `NETWORKS`.

    Raises:
        ValueError: no such network.
    """
    spec = NETWORKS[_known(network, NETWORKS, what="network")]
    kernels: dict[str, Work] = {}
    for shape, times in shapes_of(spec).items():
        name = f"{shape.kernel}, {shape.form}" if shape.form else shape.kernel
        kernels[name] = kernels.get(name, Work()) + work_of_shape(shape, DTYPE) * times
    return kernels, work_of_segments(spec, dtype=DTYPE)


def floors(work: Work, peak: Peak) -> tuple[float, float]:
    """Microseconds that the work takes at least on a board, fused and unfused."""
    return peak.floor_us(work.fused), peak.floor_us(work.unfused)


def grids(*, networks: Sequence[str] = (), boards: Sequence[str] = ()) -> Iterator[Grid]:
    """All tables.

    Args:
        networks: names in `NETWORKS`; all where empty.
        boards: names in `PEAKS`; all where empty.

    Raises:
        ValueError: an unknown network or board.
    """
    peaks = [PEAKS[_known(name, PEAKS, what="board")] for name in boards or PEAKS]
    yield Grid(
        "Peak rates, as published",
        ("board", "matrix, FP16 dense, TFLOP/s", "vector, FP32, TFLOP/s", "memory, GB/s"),
        tuple(
            (
                peak.board,
                f"{peak.matrix_flop_s / 1e12:g}",
                f"{peak.vector_flop_s / 1e12:g}",
                f"{peak.bytes_s / 1e9:g}",
            )
            for peak in peaks
        ),
        notes=tuple(
            f"{peak.board}: {peak.source}." + (f" Derived: {peak.derived}." if peak.derived else "") for peak in peaks
        ),
    )
    for network in networks or NETWORKS:
        for what, some in zip(("kernels", "segments"), works(network), strict=True):
            yield _work(f"{network}, {what}: work, fused / unfused ({_LABEL})", some)
            yield _floors(f"{network}, {what}: floors in microseconds, fused / unfused ({_LABEL})", some, peaks)


def _work(title: str, some: dict[str, Work]) -> Grid:
    columns: dict[str, Callable[[Load], str]] = {
        "launches": lambda load: f"{load.launches}",
        "matrix, GFLOP": lambda load: f"{load.matrix_flop / 1e9:.3f}",
        "vector, GFLOP": lambda load: f"{load.vector_flop / 1e9:.4f}",
        "moved, MB": lambda load: f"{load.moved / 1e6:.2f}",
    }
    return Grid(
        title,
        ("", *columns),
        tuple(
            (name, *(f"{show(work.fused)} / {show(work.unfused)}" for show in columns.values()))
            for name, work in some.items()
        ),
    )


def _floors(title: str, some: dict[str, Work], peaks: list[Peak]) -> Grid:
    return Grid(
        title,
        ("", *(peak.board for peak in peaks)),
        tuple((name, *(" / ".join(map(_short, floors(work, peak))) for peak in peaks)) for name, work in some.items()),
    )


def _short(value: float) -> str:
    """Three digits that count, or all before the point."""
    return f"{value:,.{0 if value >= 100 else 1 if value >= 10 else 2}f}"


def _known(name: str, known: Mapping[str, object], *, what: str) -> str:
    if name not in known:
        raise ValueError(f"{what} {name} is unknown, expected one of {', '.join(known)}; choose one of them")
    return name


def markdown() -> str:
    """The document."""
    return "\n".join([_HEAD, *(grid.to_markdown() for grid in grids())])


def main() -> None:
    """Print the tables, or write the document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", action="append", default=[], help=f"one of {', '.join(NETWORKS)}; may repeat")
    parser.add_argument("--board", action="append", default=[], help=f"one of {', '.join(PEAKS)}; may repeat")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the document there, with everything")
    asked = parser.parse_args()
    if asked.markdown:
        asked.markdown.write_text(markdown(), encoding="utf-8")
        return
    console = Console()
    try:
        for grid in grids(networks=asked.network, boards=asked.board):
            console.print(grid.to_rich(), *grid.notes, sep="\n")
    except ValueError as error:
        parser.error(str(error))
    console.print(f"All of it is {_LABEL}.")


if __name__ == "__main__":
    main()
