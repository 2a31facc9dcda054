"""How fast this processor multiplies, which bounds what a network's time can be.

A target that was set for one kind of processor may be out of another's reach. A row tells so by what our side would
reach if it did nothing but its products, all of them at the rate of one large product, measured beside.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import openvino as ov
from openvino import opset14 as ops

from uperfuse.engine.backends.openvino_core import openvino_core

__all__ = ["most_of", "product_rate"]

_SIDE = 2048
_ROUNDS = 12
_HINTS = {"float32": "f32", "bf16": "bf16"}


@lru_cache
def product_rate(precision: str) -> float:
    """Operations per second, in billions, of a product of two matrices of 2048 x 2048; the fastest of twelve.

    Args:
        precision: "float32" or "bf16". Products in 8 bits are not measured.
    """
    values = np.random.default_rng(0).normal(size=(_SIDE, _SIDE)).astype(np.float32)
    given = ops.parameter([_SIDE, _SIDE], np.float32)
    product = ops.matmul(given, ops.constant(values), False, False)
    model = ov.Model([ops.result(ops.relu(product))], [given], "product")
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": _HINTS[precision]}
    request = openvino_core().compile_model(model, "CPU", settings).create_infer_request()
    request.set_input_tensor(ov.Tensor(values, shared_memory=True))
    seconds = []
    for _ in range(_ROUNDS):
        start = time.perf_counter()
        request.infer()
        seconds.append(time.perf_counter() - start)
    return 2 * _SIDE**3 / min(seconds) / 1e9


def most_of(peer_seconds: Sequence[float], *, gflop: float, precision: str) -> float:
    """How many times as fast as another our side would be if it did nothing but its products.

    Args:
        peer_seconds: of the other, round by round.
        gflop: operations of our side, in billions.
        precision: of our side's products.
    """
    return statistics.median(peer_seconds) / (gflop / product_rate(precision))
