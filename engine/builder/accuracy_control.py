"""NNCF's accuracy-aware quantisation of one segment: which of its layers compute in 8 bits, and in which ranges.

NNCF quantises the segment as OpenVINO reads it, validates it inside the whole plan and gives layers back, the most
harmful first, until what is lost keeps within a limit. Its result is read back as layers and ranges, which are then
written into the ONNX graph: the plan holds one kind of graph, checked by one reader. For that NNCF is kept to what can
be written so: inputs of the layers alone, one scale for a map, and biases as they are.

It works in a thread of its own. It makes one `Core` of OpenVINO after another, which would take the stack for signals
from the thread that they are made in (see `openvino_core`).
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import onnx
import openvino as ov
from numpy.typing import NDArray

from ..backends.cpu.segments import Pyramid
from ..backends.openvino_core import openvino_core
from .eight_bits import Range
from .layers import Layer
from .pipeline import Run

__all__ = ["Validate", "controlled_ranges"]

Validate = Callable[[Run, Sequence[int]], tuple[float, list[float]]]
"""Points of mean IoU that the plan loses with this in place of the segment: on some tiles, by number, and on each."""

_PRODUCTS = ("Convolution", "GroupConvolution", "MatMul")
_ENDS = ("Parameter", "Result", "Constant")
_QUIET = "NNCF_CI"
_RANKING_TILES = 4
_SIGNED_LEVELS = 127 / 128
_T = TypeVar("_T")


def controlled_ranges(
    model: onnx.ModelProto,
    *,
    layers: Sequence[Layer],
    inputs: Sequence[tuple[NDArray[np.float32], ...]],
    tiles: int,
    max_drop: float,
    validate: Validate,
) -> dict[str, Range]:
    """Choose the layers of a segment that compute in 8 bits.

    Args:
        model: the segment.
        layers: that may.
        inputs: what the segment takes on the tiles that give ranges.
        tiles: number of tiles that `validate` knows.
        max_drop: points that the segment may lose beyond what is lost without it.
        validate: measures.

    Returns:
        Layer -> range of the map that it multiplies, for the layers that compute in 8 bits.
    """
    nncf = _import_nncf()
    read = openvino_core().read_model(model.SerializeToString())
    read.reshape({port: ov.PartialShape(array.shape) for port, array in zip(read.inputs, inputs[0], strict=True)})
    doors = [port.get_any_name() for port in read.inputs]
    named = _Names(model.graph, layers)
    stop = threading.Event()

    def validated(compiled: ov.CompiledModel, places: Iterable[int]) -> tuple[float, list[float]]:
        if stop.is_set():
            raise CancelledError
        drop, each = validate(_running(compiled), list(places))
        return 100.0 - drop, [100.0 - one for one in each]  # NNCF divides by it

    advanced = nncf.AdvancedQuantizationParameters(disable_bias_correction=True)
    restoring = nncf.AdvancedAccuracyRestorerParameters(ranking_subset_size=_RANKING_TILES, num_ranking_workers=1)

    def quantised() -> dict[str, Range]:
        result = nncf.quantize_with_accuracy_control(
            read,
            calibration_dataset=nncf.Dataset([dict(zip(doors, arrays, strict=True)) for arrays in inputs]),
            validation_dataset=nncf.Dataset(list(range(tiles))),
            validation_fn=validated,
            max_drop=max_drop,
            drop_type=nncf.DropType.ABSOLUTE,
            preset=nncf.QuantizationPreset.PERFORMANCE,
            subset_size=len(inputs),
            ignored_scope=_all_but(read, named, nncf),
            advanced_quantization_parameters=advanced,
            advanced_accuracy_restorer_parameters=restoring,
        )
        return dict(_read_ranges(result, named))

    with contextlib.redirect_stdout(io.StringIO()):  # its progress bars
        return _in_another_thread(quantised, stop)


def _in_another_thread(work: Callable[[], _T], stop: threading.Event) -> _T:
    """Do the work there and wait; Ctrl-C sets `stop`, and is raised when the work has ended."""
    with ThreadPoolExecutor(1, thread_name_prefix="nncf") as pool:
        done = pool.submit(work)
        try:
            return done.result()
        except BaseException:  # Ctrl-C above all
            stop.set()
            raise


def _import_nncf() -> Any:
    """NNCF, quiet: by itself it reports every use over the network, unless it takes itself to run in CI."""
    before = os.environ.get(_QUIET)
    os.environ[_QUIET] = "1"
    try:
        import nncf
    finally:
        if before is None:
            del os.environ[_QUIET]
        else:
            os.environ[_QUIET] = before
    nncf.set_log_level(logging.ERROR)
    return nncf


def _running(compiled: ov.CompiledModel) -> Run:
    request = compiled.create_infer_request()

    def run(*arrays: NDArray[np.float32]) -> Pyramid:
        request.infer(list(arrays))
        return tuple(request.get_output_tensor(place).data for place in range(len(compiled.outputs)))

    return run


class _Names:
    """Finds the layer that an operation of OpenVINO was read from.

    OpenVINO names operations after nodes; of one with a bias it makes two, the product's name with a suffix; and what
    gives an output of the graph takes that one's name.
    """

    def __init__(self, graph: onnx.GraphProto, layers: Sequence[Layer]) -> None:
        self._layers = [layer.name for layer in layers]
        self._makers = {node.output[0]: node.name for node in graph.node if node.name in set(self._layers)}

    def layer(self, operation: ov.Node) -> str | None:
        """Name of the layer; None for what is none of them."""
        for tensor in operation.output(0).get_names():
            if tensor in self._makers:
                return str(self._makers[tensor])
        name = operation.get_friendly_name()
        return next((each for each in self._layers if name == each or name.startswith(f"{each}/")), None)


def _all_but(model: ov.Model, names: _Names, nncf: Any) -> Any:
    """What NNCF has to leave alone: everything but the layers."""
    kinds = {node.get_type_name() for node in model.get_ops()} - {*_PRODUCTS, *_ENDS}
    others = [
        node.get_friendly_name()
        for node in model.get_ops()
        if node.get_type_name() in _PRODUCTS and names.layer(node) is None
    ]
    return nncf.IgnoredScope(types=sorted(kinds), names=others, validate=False)


def _read_ranges(model: ov.Model, names: _Names) -> Iterator[tuple[str, Range]]:
    for node in model.get_ops():
        source = node.input_value(0).get_node() if node.get_type_name() in _PRODUCTS else None
        if source is None or source.get_type_name() != "FakeQuantize":
            continue
        layer = names.layer(node)
        assert layer is not None, f"NNCF quantised {node.get_friendly_name()}, which it was told to leave"
        low = float(source.input_value(1).get_node().get_data().min())
        high = float(source.input_value(2).get_node().get_data().max())
        yield layer, Range(low * _SIGNED_LEVELS if low < 0 else 0.0, high)
