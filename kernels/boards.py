"""What a multiprocessor of each architecture holds, and how many blocks of a kernel that makes.

Limits as in NVIDIA's CUDA Programming Guide, "Compute Capabilities", table "Technical Specifications per Compute
Capability"; the same figures stand in CCCL's `cuda/__device/arch_traits.h`. How blocks share them is as in
`cuda_occupancy.h` of the CUDA toolkit.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["BOARDS", "Board"]

WARP_THREADS = 32
REGISTERS = 65536
"""32-bit registers of a multiprocessor, a quarter for each of its four partitions."""
PARTITIONS = 4
REGISTER_UNIT = 256
"""Registers are given to warps in multiples of this many."""
THREAD_REGISTERS = 255
RESERVED_SHARED_BYTES = 1024
"""Shared memory that CUDA keeps for itself, of every block."""
SHARED_UNIT_BYTES = 128


@dataclass(frozen=True)
class Board:
    """Limits of one architecture.

    Attributes:
        capability: compute capability, 87 for 8.7.
        products: that have it.
        warps: that a multiprocessor holds.
        blocks: that a multiprocessor holds.
        shared_bytes: shared memory of a multiprocessor.
    """

    capability: int
    products: str
    warps: int
    blocks: int
    shared_bytes: int

    @property
    def block_shared_bytes(self) -> int:
        """Shared memory that one block can ask for."""
        return self.shared_bytes - RESERVED_SHARED_BYTES

    def resident_blocks(self, *, registers: int, warps: int, shared_bytes: int) -> int:
        """How many blocks of a kernel a multiprocessor holds at once.

        Args:
            registers: per thread.
            warps: per block.
            shared_bytes: per block.

        Returns:
            The number; 0 where not even one fits.

        Example:
            >>> BOARDS[87].resident_blocks(registers=80, warps=4, shared_bytes=2048)
            6
        """
        if registers > THREAD_REGISTERS or shared_bytes > self.block_shared_bytes:
            return 0
        warp_registers = _round_up(registers * WARP_THREADS, REGISTER_UNIT)
        by_registers = REGISTERS // PARTITIONS // warp_registers * PARTITIONS // warps
        by_shared = self.shared_bytes // _round_up(shared_bytes + RESERVED_SHARED_BYTES, SHARED_UNIT_BYTES)
        return min(self.blocks, self.warps // warps, by_registers, by_shared)


def _round_up(value: int, unit: int) -> int:
    return -(-value // unit) * unit


_KB = 1024
BOARDS = {
    board.capability: board
    for board in (
        Board(80, "A100", warps=64, blocks=32, shared_bytes=164 * _KB),
        Board(86, "RTX A6000, RTX 30", warps=48, blocks=16, shared_bytes=100 * _KB),
        Board(87, "Orin", warps=48, blocks=16, shared_bytes=164 * _KB),
        Board(89, "L4, L40, RTX 40", warps=48, blocks=24, shared_bytes=100 * _KB),
        Board(90, "H100, H200", warps=64, blocks=32, shared_bytes=228 * _KB),
        Board(100, "B200", warps=64, blocks=32, shared_bytes=228 * _KB),
        Board(110, "Thor", warps=48, blocks=24, shared_bytes=228 * _KB),
        Board(120, "RTX PRO 6000, RTX 50", warps=48, blocks=24, shared_bytes=100 * _KB),
    )
}
"""Compute capability to board: what kernels are compiled for."""
