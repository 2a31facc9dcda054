"""What boards can do at most, as published, and what is asked of them: a floor follows from both."""

from __future__ import annotations

from dataclasses import astuple, dataclass

__all__ = ["PEAKS", "Load", "Peak", "peak_of"]


@dataclass(frozen=True)
class Load:
    """What is asked of a board.

    Attributes:
        launches: of kernels.
        moved: bytes between memory and the GPU.
        matrix_flop: operations of matrix units.
        vector_flop: operations of the other units.
    """

    launches: int = 0
    moved: int = 0
    matrix_flop: int = 0
    vector_flop: int = 0

    def __add__(self, other: Load) -> Load:
        return Load(*(ours + theirs for ours, theirs in zip(astuple(self), astuple(other), strict=True)))

    def __mul__(self, times: int) -> Load:
        return Load(*(times * each for each in astuple(self)))


@dataclass(frozen=True)
class Peak:
    """Published peak rates of one board, dense.

    Attributes:
        board: its name here.
        device: as CUDA names it.
        processors: multiprocessors, which tell boards of one device name apart.
        matrix_flop_s: of matrix units, FP16 or BF16, dense, accumulating in FP32.
        vector_flop_s: of the other units, FP32; a multiply-add counts two.
        bytes_s: of memory.
        source: where the figures stand.
        derived: how those follow that do not stand there.
    """

    board: str
    device: str
    processors: int
    matrix_flop_s: float
    vector_flop_s: float
    bytes_s: float
    source: str
    derived: str = ""

    def floor_us(self, load: Load) -> float:
        """Least time in microseconds: that of the slowest of memory, matrix units and the others, all at their peak.

        Example:
            >>> PEAKS["A100"].floor_us(Load(moved=2_039_000))
            1.0
        """
        return 1e6 * max(self._times(load).values())

    def bound(self, load: Load) -> str:
        """Which of the three decides the floor: "memory", "matrix" or "vector"."""
        times = self._times(load)
        return max(times, key=lambda name: times[name])

    def _times(self, load: Load) -> dict[str, float]:
        return {
            "memory": load.moved / self.bytes_s,
            "matrix": load.matrix_flop / self.matrix_flop_s,
            "vector": load.vector_flop / self.vector_flop_s,
        }


_T = 1e12
_G = 1e9
_JETSON = "developer.nvidia.com, Jetson Download Center"
_SITE = "nvidia.com/content/dam/en-zz/Solutions"
PEAKS = {
    peak.board: peak
    for peak in (
        Peak(
            "Orin NX",
            device="Orin",
            processors=8,
            matrix_flop_s=15.0 * _T,
            vector_flop_s=1.88 * _T,
            bytes_s=102.4 * _G,
            source=f"Jetson Orin NX Series Modules Data Sheet, DS-10712-001, 16 GB ({_JETSON})",
            derived="FP32 = 1,024 cores x 2 x 918 MHz; FP16 = 60 sparse INT8 TOPS of the GPU / 2 (dense) / 2 (16 bits)",
        ),
        Peak(
            "AGX Orin",
            device="Orin",
            processors=16,
            matrix_flop_s=42.5 * _T,
            vector_flop_s=5.3 * _T,
            bytes_s=204.8 * _G,
            source=(
                "Jetson AGX Orin Series Technical Brief, TB_10749-001 v1.2, 64 GB "
                f"({_SITE}/gtcf21/jetson-orin/nvidia-jetson-agx-orin-technical-brief.pdf)"
            ),
            derived="FP16 = 170 sparse INT8 TOPS of the GPU / 2 (dense) / 2 (16 bits)",
        ),
        Peak(
            "Thor",
            device="NVIDIA Thor",
            processors=20,
            matrix_flop_s=258.75 * _T,
            vector_flop_s=8.064 * _T,
            bytes_s=273 * _G,
            source=f"Jetson Thor Series Modules Data Sheet, T5000 ({_JETSON})",
            derived="FP16 = 1,035 sparse FP8 TFLOPS / 2 (dense) / 2 (16 bits)",
        ),
        Peak(
            "L4",
            device="NVIDIA L4",
            processors=58,
            matrix_flop_s=121 * _T,
            vector_flop_s=30.3 * _T,
            bytes_s=300 * _G,
            source="NVIDIA L4 Tensor Core GPU Datasheet (nvidia.com/en-us/data-center/l4)",
            derived="FP16 = 242 TFLOPS with sparsity / 2 (dense)",
        ),
        Peak(
            "A100",
            device="NVIDIA A100-SXM4-80GB",
            processors=108,
            matrix_flop_s=312 * _T,
            vector_flop_s=19.5 * _T,
            bytes_s=2039 * _G,
            source=(
                "NVIDIA A100 Tensor Core GPU Datasheet, 80 GB SXM "
                f"({_SITE}/Data-Center/a100/pdf/nvidia-a100-datasheet-us-nvidia-1758950-r4-web.pdf)"
            ),
        ),
        Peak(
            "H100",
            device="NVIDIA H100 80GB HBM3",
            processors=132,
            matrix_flop_s=989.4 * _T,
            vector_flop_s=66.9 * _T,
            bytes_s=3350 * _G,
            source=(
                "NVIDIA H100 Tensor Core GPU Architecture, whitepaper, SXM5 (resources.nvidia.com): operations; NVIDIA "
                "H100 Tensor Core GPU Datasheet (nvidia.com/en-us/data-center/h100): bandwidth"
            ),
        ),
    )
}
"""Boards by name."""


def peak_of(device: str, processors: int) -> Peak | None:
    """The board with this CUDA name and number of multiprocessors, if its rates are known here.

    Example:
        >>> peak_of("Orin", 16).board
        'AGX Orin'
        >>> peak_of("Orin", 14) is None
        True
    """
    return next((peak for peak in PEAKS.values() if (peak.device, peak.processors) == (device, processors)), None)
