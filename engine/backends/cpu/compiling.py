"""How OpenVINO is asked to compile a graph for the processor."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import openvino as ov

from ...errors import BackendError
from ..openvino_core import openvino_core
from .rewrites import make_faster
from .window_attention import WindowAttention

__all__ = ["HINTS", "compile_graph", "first_line", "has_cubic_attention"]

HINTS = {"float32": "f32", "bf16": "bf16"}
"""Types in which what is not quantised may be multiplied."""


def compile_graph(
    model: ov.Model, *, key: str, precision: str, threads: int, cache: Path | None = None
) -> ov.CompiledModel:
    """Compile a graph of fixed shapes for one inference at a time.

    Args:
        model: the graph, which is changed.
        key: what it is, for messages.
        precision: one of `HINTS`; products that the graph quantises are in 8 bits whatever it says.
        threads: of the processor.
        cache: folder in which compiled graphs are kept; None keeps none.

    Raises:
        BackendError: OpenVINO cannot compile it.
    """
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": HINTS[precision],
        "INFERENCE_NUM_THREADS": threads,
    }
    if cache:
        settings["CACHE_DIR"] = str(cache)
    make_faster(model, precision=precision, threads=threads)
    if has_cubic_attention(model):
        settings["SNIPPETS_MODE"] = "DISABLE"
    try:
        return _core().compile_model(model, "CPU", settings)
    except RuntimeError as error:
        raise BackendError(f"{key} cannot be compiled by OpenVINO: {first_line(error)}") from error


@cache
def _core() -> ov.Core:
    """OpenVINO's `Core`, which knows the operation of our own in graphs that it has kept."""
    core = openvino_core()
    core.add_extension(WindowAttention)
    return core


def has_cubic_attention(model: ov.Model) -> bool:
    """Whether somewhere as many heads attend as there are tokens: OpenVINO's fused attention is wrong there.

    Seen in 2026.4 in float32, by 0.2 to 1 % per block: Swin-B has 16 heads and windows of 4 x 4 on SPOT's tiles.
    """
    softmax = (node for node in model.get_ops() if node.get_type_name() == "Softmax")
    shapes = (list(node.get_output_partial_shape(0)) for node in softmax)
    return any(len(shape) > 2 and shape[-3] == shape[-2] == shape[-1] for shape in shapes)


def first_line(error: BaseException) -> str:
    """What an error of OpenVINO says, without where it was raised."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
