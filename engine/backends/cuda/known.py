"""Features of primed tiles, which stay on the GPU."""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import BackendError
from .driver import DeviceMemory
from .staging import Void

__all__ = ["CudaKnown", "KnownChunk"]


@dataclass(frozen=True)
class KnownChunk:
    """A chunk of tiles that were encoded together.

    Attributes:
        batch: of the frame that primed them.
        memory: their pyramids, as `features_layout` lays them out.
        void: void pixels of each tile's base, where it was primed.
    """

    batch: int
    memory: DeviceMemory
    void: tuple[Void, ...]


class CudaKnown:
    """See `Known`.

    Args:
        modalities: that were primed, in the plan's order.
        chunks: of the batch.
    """

    def __init__(self, modalities: tuple[str, ...], chunks: tuple[KnownChunk, ...]) -> None:
        self.modalities = modalities
        self._chunks = chunks
        self._closed = False

    def __len__(self) -> int:
        return sum(len(chunk.void) for chunk in self._chunks)

    @property
    def chunks(self) -> tuple[KnownChunk, ...]:
        """Chunks of the batch.

        Raises:
            BackendError: what is known was given back.
        """
        if self._closed:
            raise BackendError("what was primed is closed; prime again")
        return self._chunks

    def close(self) -> None:
        """Give the memory back."""
        self._closed = True
        for chunk in self._chunks:
            chunk.memory.release()
