"""How OpenVINO is asked to compile a graph for the processor."""

from __future__ import annotations

from pathlib import Path

import openvino as ov

from ...errors import BackendError
from ..openvino_core import openvino_core
from .graphs import bound_long_products, has_cubic_attention, shorten_streams

__all__ = ["HINTS", "compile_graph", "first_line"]

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
    if precision == "float32":
        bound_long_products(model)
    elif precision == "bf16":
        shorten_streams(model)
    if has_cubic_attention(model):
        settings["SNIPPETS_MODE"] = "DISABLE"
    try:
        return openvino_core().compile_model(model, "CPU", settings)
    except RuntimeError as error:
        raise BackendError(f"{key} cannot be compiled by OpenVINO: {first_line(error)}") from error


def first_line(error: BaseException) -> str:
    """What an error of OpenVINO says, without where it was raised."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
