"""What compiled kernels take of a multiprocessor, as the kernels' READMEs state it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from uperfuse.engine.launching.record import LaunchRecord
from uperfuse.kernels.boards import BOARDS, WARP_THREADS
from uperfuse.kernels.catalogue import kernel_specs

from .cubin import Cubin

KERNELS = Path(__file__).resolve().parents[2] / "kernels"


@dataclass(frozen=True)
class Compiled:
    """One compiled variant: its launch record, its cubin read back, and where the record lies."""

    record: LaunchRecord
    cubin: Cubin
    path: Path

    @property
    def name(self) -> str:
        return f"{self.path.parent.name}/{self.path.stem}"

    @property
    def warps(self) -> int:
        return self.record.block[0] // WARP_THREADS

    @property
    def resident_blocks(self) -> int:
        """Blocks that a multiprocessor holds at once."""
        board = BOARDS[self.record.capability]
        return board.resident_blocks(
            registers=self.cubin.registers, warps=self.warps, shared_bytes=self.record.shared_bytes
        )

    @property
    def occupancy(self) -> float:
        """Share of a multiprocessor's warps."""
        return self.resident_blocks * self.warps / BOARDS[self.record.capability].warps


def assert_in_readmes(compiled: Iterable[Compiled]) -> None:
    """Check that the READMEs of the kernels have a table with a row for each kernel and type, and no other."""
    folders = {spec.name: spec.function.fn.__module__.split(".")[-2] for spec in kernel_specs()}
    tables: dict[str, dict[str, dict[int, list[Compiled]]]] = {}
    for each in compiled:
        *_, written = each.record.types.values()
        row = f"{each.record.kernel}, {written}"
        columns = tables.setdefault(folders[each.record.kernel], {}).setdefault(row, {})
        columns.setdefault(each.record.capability, []).append(each)
    wrong = []
    for folder, rows in tables.items():
        readme = (KERNELS / folder / "README.md").read_text(encoding="utf-8")
        table = "\n".join(_table(rows))
        if f"{table}\n" not in f"{readme}\n":
            wrong.append(f"kernels/{folder}/README.md must have this table, and no more of it:\n{table}\n")
    assert not wrong, "\n".join(wrong)


def _table(rows: Mapping[str, Mapping[int, Sequence[Compiled]]]) -> Iterator[str]:
    capabilities = list(next(iter(rows.values())))
    yield f"| kernel, type | {' | '.join(f'sm_{each}' for each in capabilities)} |"
    yield "| --- " * (1 + len(capabilities)) + "|"
    for row in sorted(rows):
        yield f"| {row} | {' | '.join(_cell(rows[row][each]) for each in capabilities)} |"


def _cell(variants: Sequence[Compiled]) -> str:
    """What the variants of a row take, as ranges."""

    def span(value: Callable[[Compiled], float], digits: int = 0) -> str:
        low, high = (f"{find(map(value, variants)):.{digits}f}" for find in (min, max))
        return low if low == high else f"{low} to {high}"

    registers, kilobytes = (
        span(lambda each: each.cubin.registers),
        span(lambda each: each.record.shared_bytes / 1024, 1),
    )
    blocks, occupancy = span(lambda each: each.resident_blocks), span(lambda each: 100 * each.occupancy)
    return f"{registers} registers, {kilobytes} KB, {blocks} block{'s'[blocks == '1' :]}, {occupancy} %"
