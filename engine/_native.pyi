"""CPU hot loops and CUDA graphs, compiled from csrc/.

The loops share work among `threads` threads; no result depends on their number. CUDA is looked up when it is used.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .resize import AxisResize

def classify(
    logits: NDArray[np.float32],
    *,
    rows: AxisResize,
    columns: AxisResize,
    out: tuple[NDArray[np.uint8], NDArray[np.uint8]] | None = None,
    threads: int = 1,
    level: str | None = None,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Resize the logits of one tile, take the largest and its softmax probability.

    Args:
        logits: float32 [K, h, w], K from 1 to 255; the last axis contiguous, the others at any stride.
        rows: how h becomes Y.
        columns: how w becomes X.
        out: labels and confidence, uint8 [Y, X] each, to be filled; the last axis contiguous. New arrays if None.
        threads: at least 1.
        level: one of `levels()`; the first if None.

    Returns:
        Labels (of equal logits the first) and confidence in percent, uint8 [Y, X]; the arrays of `out` if given.

    Raises:
        TypeError: a wrong type or dtype.
        ValueError: a wrong shape, stride, table or level; NaN or infinite logits, with their count.
    """

def prepare(
    tile: NDArray[Any],
    *,
    out: NDArray[np.float32],
    band: Sequence[int],
    minus: Sequence[int],
    mean: Sequence[float],
    std: Sequence[float],
    void: NDArray[np.bool_] | None = None,
    threads: int = 1,
    level: str | None = None,
) -> int:
    """Turn digital numbers into channels `(tile[band] - tile[minus] - mean) / std`, in float32 like PyTorch.

    Args:
        tile: uint8, uint16, int16 or float32 [C, Y, X] at any strides.
        out: float32 [channels, Y, X] to be filled, exactly 0 where void; the last axis contiguous. It shares no
            memory with `tile`.
        band: per channel the band it takes.
        minus: per channel the band subtracted from it, -1 for none.
        mean: per channel.
        std: per channel, above 0.
        void: bool [Y, X] at any strides, True where a pixel is void. Nothing is void if None.
        threads: at least 1.
        level: one of `levels()`; the first if None.

    Returns:
        How many values of the bands in use are NaN or infinite at pixels that are not void. Callers refuse the tile
        unless it is 0.

    Raises:
        TypeError: a wrong type or dtype.
        ValueError: a wrong shape, stride, band, std or level.
    """

class DateLayers:
    """Layers of a series' encoder that see each date by itself.

    Convolutions of 3 x 3 with reflected borders in float32, each normalised over groups of channels and rectified,
    multiplied by Winograd's F(2 x 2, 3 x 3), which rounds otherwise than a plain convolution.

    Args:
        level: one of `levels()`; the first if None.

    Raises:
        ValueError: a wrong level.

    Source: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016.
    """

    def __init__(self, *, level: str | None = None) -> None: ...
    def append(
        self,
        *,
        weight: NDArray[np.float32],
        bias: NDArray[np.float32],
        scale: NDArray[np.float32],
        shift: NDArray[np.float32],
        groups: int,
        epsilon: float,
        residual: bool = False,
    ) -> None:
        """Put a layer behind the others: `max(0, normalised(conv(x) + bias) * scale + shift)`.

        Args:
            weight: [out, in, 3, 3]; `in` is what the layer before gives.
            bias: [out].
            scale: [out].
            shift: [out].
            groups: of channels, each normalised by its mean and variance over one date's pixels.
            epsilon: added to the variance, above 0.
            residual: whether the layer's input is added to what it gives.

        Raises:
            TypeError: a wrong type or dtype.
            ValueError: a wrong shape, number of groups or epsilon.
        """

    def run(
        self,
        pixels: NDArray[np.float32],
        *,
        mask: NDArray[np.float32],
        out: Mapping[int, NDArray[np.float32]],
        threads: int = 1,
    ) -> None:
        """Take dates through all layers.

        Args:
            pixels: [T, C, Y, X], C-contiguous; Y and X at least 2.
            mask: [T]; dates where it is 0 are not looked at.
            out: number of a layer -> array [T, out, Y, X] to be filled, 0 on dates outside the mask; its pixels at
                one distance, its other axes at any stride. They share no memory with `pixels` or each other.
            threads: at least 1.

        Raises:
            TypeError: a wrong type or dtype.
            ValueError: a wrong shape or layer; there are no layers.
        """

class WindowAttention:
    """Attention within windows of one image's tokens, as in Swin, in bf16.

    What a token gets is `softmax(query @ keys + bias) @ values` over its window. NumPy has no bf16: arrays of it hold
    its bits as any type of two bytes.

    Args:
        tokens: T, of the image.
        padding: float32 [2, C], key and value of every place without a token; C is 32 per head.
        bias: float32 [heads, N, N padded to a multiple of 16], times log2(e); below -1e29 where padded.
        places: int32 [windows, N], the window's tokens; T where there is none. N is at most 256.
        regions: int32 [windows, N]; tokens of one region meet, others do not.
        threads: at least 1.
        cores: on which they run, but for the caller; those of the caller if there are none.

    Raises:
        RuntimeError: not `attends_in_windows()`.
        TypeError: a wrong type or dtype.
        ValueError: a wrong shape or place.

    Source: Liu et al., "Swin Transformer", ICCV 2021.
    """

    def __init__(
        self,
        *,
        tokens: int,
        padding: NDArray[np.float32],
        bias: NDArray[np.float32],
        places: NDArray[np.int32],
        regions: NDArray[np.int32],
        threads: int = 1,
        cores: Sequence[int] = (),
    ) -> None: ...
    def run(self, queries: NDArray[Any], keys: NDArray[Any], values: NDArray[Any], out: NDArray[Any]) -> None:
        """Fill `out` with what every token gets.

        Args:
            queries: bf16 [1, T, C], already scaled, C-contiguous, as are the others.
            keys: [1, T, C].
            values: [1, T, C].
            out: [1, T, C]; tokens that lie in no window keep what they hold.

        Raises:
            TypeError: not of two bytes.
            ValueError: a wrong shape or stride.
        """

def attends_in_windows() -> bool:
    """Whether `WindowAttention` runs here: the processor has bf16 in AVX-512 and no AMX, which it would not use."""

def levels() -> tuple[str, ...]:
    """Name the instruction sets this processor runs, fastest first: "avx512", "avx2", "baseline"."""

class CudaError(RuntimeError):
    """A call of the CUDA driver that failed, or a driver that is not there.

    Attributes:
        code: of the driver; 500 ("not found") where the driver, or a part of it, is missing.
        call: the call that failed, or what is missing.
    """

    code: int
    call: str

class CudaGraph:
    """Work of a CUDA stream, recorded once and launched again with one call.

    Streams are handles of the driver. The context that they belong to is current in every call but `close`. A graph
    that is not closed is closed when it is collected; where its context is gone, it went along.
    """

    @staticmethod
    def capture_begin(stream: int) -> None:
        """Record what is put on the stream from here on, instead of running it.

        Until the end, calls of this thread that could wait for the device or allocate are refused and spoil the
        recording; other threads are not watched.

        Raises:
            CudaError: the driver refuses or is missing.
        """

    @staticmethod
    def capture_end(stream: int) -> CudaGraph:
        """End the recording and make it ready to be launched. The stream runs again, whether this succeeds or not.

        Raises:
            CudaError: the driver refuses, as it does where the recording was spoilt.
        """

    @staticmethod
    def capture_abort(stream: int) -> None:
        """End the recording, if there is one, and drop what was recorded. The stream runs again.

        Raises:
            CudaError: the driver is missing.
        """

    def launch(self, stream: int) -> None:
        """Put everything that was recorded on a stream. Launches of one graph run one after another.

        Raises:
            CudaError: the driver refuses; the graph is closed.
        """

    def close(self) -> None:
        """Give the graph's memory back, once its launches are done. Any number of times, from any thread."""

def cuda_driver_version() -> int:
    """Version of the CUDA driver, 12060 for 12.6; 0 where there is none."""

def cuda_pop_context() -> None:
    """Take the calling thread's current context off its stack.

    Raises:
        CudaError: there is none; or there is no driver.
    """

def cuda_release_primary_context(device: int) -> None:
    """Take one user off a device's primary context, whichever state it is in; the last one destroys it.

    Raises:
        CudaError: nobody uses it; or there is no driver.
    """

class BorrowedArray:
    """An array of another library, by DLPack; it is kept until this goes."""

    def describe(self) -> tuple[int, tuple[int, ...], tuple[int, int, int], tuple[int, int], bool]:
        """Say where and what it is.

        Returns:
            Address of the first element; shape, slowest axis first; code (0 signed, 1 unsigned, 2 floating point), bits
            and lanes of an element; type (1 host, 2 CUDA) and number of the device; and whether elements lie one after
            the other, the last axis fastest.
        """

def lend_array(
    address: int, *, shape: Sequence[int], code: int, bits: int, device_type: int, ordinal: int, owner: Any
) -> Any:
    """Make a DLPack capsule of a dense array.

    Args:
        address: of the first element.
        shape: slowest axis first.
        code: 0 signed, 1 unsigned, 2 floating point.
        bits: of an element.
        device_type: 1 host, 2 CUDA.
        ordinal: number of the device.
        owner: kept until the last user is done, on whichever thread that is.
    """

def borrow_array(capsule: Any) -> BorrowedArray:
    """Take the array of a DLPack capsule, which is used up.

    Raises:
        ValueError: it is no such capsule, or was used.
    """
