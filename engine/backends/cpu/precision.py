"""In which type a plan is computed on this processor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import openvino as ov
from openvino import opset14 as ops

from ...errors import BackendError
from ...plan.manifest import Manifest
from ..openvino_core import openvino_core
from .compiling import HINTS, compile_graph

__all__ = ["Choice", "choose_precision", "multiplies_8_bits"]

_TERMS, _LARGEST_MAP, _LARGEST_WEIGHT = 64, 255, 127


@dataclass(frozen=True)
class Choice:
    """Types of a plan's products.

    Attributes:
        precision: "float32", "bf16" or "int8".
        rest: of what is not quantised, one of `HINTS`; the same as `precision` without quantisation.
        why: in words.
    """

    precision: str
    rest: str
    why: str


def choose_precision(asked: str, *, manifest: Manifest) -> Choice:
    """Types of a plan's products on this processor.

    Args:
        asked: "auto", "float32", "bf16" or "int8".
        manifest: of the plan.

    Raises:
        BackendError: the precision is unknown, or the processor or the plan lacks it.
    """
    if asked not in ("auto", "int8", *HINTS):
        raise BackendError(f"precision is {asked!r}, expected auto, {', '.join(HINTS)} or int8")
    usual = _usual(manifest)
    if asked == "int8" and manifest.quantised is None:
        raise BackendError(
            "precision is int8, and the plan has no 8-bit form; add one with uperfuse build PLAN --device cpu "
            "--precision int8 --scene SCENE, or use precision='auto'"
        )
    if manifest.quantised is not None and asked in ("auto", "int8"):
        if multiplies_8_bits():
            return Choice("int8", usual.rest, _said(manifest, usual.rest))
        unsafe = "the processor's 8-bit products overflow (it has no VNNI)"
        if asked == "int8":
            raise BackendError(f"precision is int8, but {unsafe}; use precision='auto'")
        return Choice(usual.precision, usual.rest, f"{usual.why}; the plan's 8-bit form is left alone, for {unsafe}")
    if asked == "auto":
        return usual
    if asked == "bf16" and not _has_bf16():
        raise BackendError("precision is bf16, but the processor has no bf16 instructions; use precision='float32'")
    if asked == "bf16" and not _has_images(manifest):
        raise BackendError(
            "precision is bf16, but the plan has series alone, which need float32; use precision='float32'"
        )
    return Choice(asked, asked, f"in {asked}, as asked")


def multiplies_8_bits() -> bool:
    """Whether 8-bit products of the largest numbers are right.

    Processors without VNNI add two products in 16 bits, where they saturate; OpenVINO uses them all the same.
    """
    largest = np.float32(_LARGEST_MAP)
    pixels = ops.parameter([1, _TERMS, 4, 4], np.float32)
    map_ = ops.fake_quantize(pixels, np.float32(0), largest, np.float32(0), largest, 256)
    whole = ops.constant(np.full((16, _TERMS, 1, 1), _LARGEST_WEIGHT, np.int8))
    weight = ops.multiply(ops.convert(whole, np.float32), np.float32(1 / _LARGEST_WEIGHT))
    product = ops.convolution(map_, weight, [1, 1], [0, 0], [0, 0], [1, 1])
    compiled = compile_graph(ov.Model([product], [pixels]), key="8-bit products", precision="float32", threads=1)
    got = compiled(np.full((1, _TERMS, 4, 4), largest))[0]
    return bool(np.allclose(got, _TERMS * _LARGEST_MAP, rtol=1e-3))


def _usual(manifest: Manifest) -> Choice:
    if not _has_images(manifest):
        return Choice("float32", "float32", "in float32, which series need")
    if _has_bf16():
        return Choice(
            "bf16",
            "bf16",
            "in bf16, which the processor multiplies natively; series and elevation's start in float32",
        )
    return Choice("float32", "float32", "in float32: the processor has no bf16 instructions")


def _said(manifest: Manifest, rest: str) -> str:
    payload = manifest.quantised
    assert payload is not None
    equal = ", ".join(f"{each.task} {each.argmax_equal:.2%}" for each in payload.agreement)
    back = payload.float_layers
    stayed = f"; for its sake {', '.join(back)} stayed in floating point" if back else ""
    return (
        f"in int8 ({', '.join(payload.segments)}), the rest in {rest} and series in float32; on the tiles that it was "
        f"made with: at most {payload.max_miou_drop:g} points of mean IoU lost, the same class as in float32 at {equal}"
        f"{stayed}"
    )


def _has_bf16() -> bool:
    return "BF16" in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _has_images(manifest: Manifest) -> bool:
    return any(modality.kind == "image" for modality in manifest.modalities)
