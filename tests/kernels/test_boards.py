"""Occupancy against figures of the CUDA toolkit's calculator."""

import pytest

from uperfuse.engine.launching import ARCHITECTURES
from uperfuse.kernels.boards import BOARDS

KB = 1024


@pytest.mark.parametrize(
    ("capability", "registers", "warps", "shared_bytes", "blocks"),
    [
        (87, 32, 4, 0, 12),  # as many warps as there are places
        (87, 32, 1, 0, 16),  # as many blocks as there are places
        (80, 32, 1, 0, 32),
        (90, 255, 4, 0, 2),
        (90, 255, 8, 0, 1),
        # 200 registers: two warps in each quarter of the file, not the 2.56 that its size would give
        (120, 200, 2, 0, 4),
        (120, 168, 2, 0, 6),
        # 33 registers take as much as 40
        (90, 33, 1, 0, 32),
        (90, 33, 4, 0, 12),
        (90, 40, 4, 0, 12),
        (90, 41, 4, 0, 10),
        (87, 32, 4, 163 * KB, 1),
        (87, 32, 4, 163 * KB + 1, 0),
        (87, 32, 4, 81 * KB, 2),
        (87, 32, 4, 81 * KB + 1, 1),
        (89, 32, 4, 99 * KB, 1),
        (89, 32, 4, 100 * KB, 0),
        (90, 32, 4, 227 * KB, 1),
        (90, 256, 4, 0, 0),
        (80, 168, 16, 0, 0),  # 16 warps want 4 in each quarter, which holds 3
    ],
)
def test_resident_blocks(capability, registers, warps, shared_bytes, blocks):
    board = BOARDS[capability]
    assert board.resident_blocks(registers=registers, warps=warps, shared_bytes=shared_bytes) == blocks


def test_boards_are_those_that_kernels_are_compiled_for():
    assert tuple(BOARDS) == ARCHITECTURES == (80, 86, 87, 89, 90, 100, 110, 120)
    assert {board.block_shared_bytes // KB for board in BOARDS.values()} == {99, 163, 227}
