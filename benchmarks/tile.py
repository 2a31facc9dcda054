"""One 512 px aerial tile, Swin-B + UPerNet, raw uint8 in, labels and confidence out, against what users would pick.

    python -m benchmarks.tile [--rounds 9] [--px 512] [--quick] [--json FILE]

The weights are random: they decide neither time nor memory. Labels of every side are compared before anything is timed.
A peer that is not installed is passed over with a word.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.eight_bits import eight_bit_engine
from benchmarks.networks import SWIN_BASE, TINY, plan_of, random_network
from benchmarks.product_rate import most_of
from benchmarks.rasters import aerial_raster, scene_of
from benchmarks.records import Record, hand_over, options, record
from benchmarks.timing import interleaved, ratios, report
from uperfuse.engine import Engine
from uperfuse.engine.backends.openvino_core import openvino_core
from uperfuse.engine.cores import usable_cores
from uperfuse.engine.flairhub import MODALITIES
from uperfuse.trainer.export.graph import export_graph
from uperfuse.trainer.export.segments import SegmentModule
from uperfuse.trainer.network import BackboneSpec, NetworkSpec, UPerFuse

_TASK = "AERIAL_LABEL-COSIA"
_REFERENCE = "PyTorch float32"
_EQUAL = {"float32": 0.9999, "bf16": 0.98, "int8": 0.7}

Labels = NDArray[np.uint8]
Side = Callable[[], Labels]
"""Maps the tile and gives its labels; confidence is computed, too."""


class _Map(nn.Module):
    """The network from raw numbers to logits of every pixel, as one module."""

    def __init__(self, network: UPerFuse) -> None:
        super().__init__()
        self.network = network
        facts = MODALITIES["AERIAL_RGBI"]
        self.mean, self.deviation = (
            nn.Buffer(torch.tensor([facts.statistics[band][place] for band in facts.usual])[:, None, None])
            for place in (0, 1)
        )

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.network({"AERIAL_RGBI": (pixels - self.mean) / self.deviation})[_TASK]
        return logits


def torch_side(module: Callable[[Tensor], Tensor], pixels: NDArray[np.uint8], *, half: bool) -> Labels:
    """As a PyTorch user maps a tile."""
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=half):
        logits = module(torch.from_numpy(pixels).float()[None])
        _, labels = torch.softmax(logits.float(), dim=1).max(dim=1)
    found: Labels = labels.numpy().astype(np.uint8)[0]
    return found


def from_logits(logits: NDArray[np.float32]) -> Labels:
    """Labels and confidence [K, Y, X] as NumPy makes them."""
    powers = np.exp(logits - logits.max(axis=0))
    _ = powers.max(axis=0) / powers.sum(axis=0)
    labels: Labels = logits.argmax(axis=0).astype(np.uint8)
    return labels


def openvino_side(graph: bytes, pixels: NDArray[np.uint8], *, precision: str) -> Side:
    """One graph in OpenVINO, then NumPy."""
    core = openvino_core()
    model = core.read_model(graph)
    model.reshape([1, *pixels.shape])
    hint = {"float32": "f32", "bf16": "bf16"}[precision]
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": hint}
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    return lambda: from_logits(next(iter(request.infer([pixels.astype(np.float32)[None]]).values()))[0])


def onnx_runtime_side(graph: bytes, pixels: NDArray[np.uint8]) -> Side:
    """One graph in ONNX Runtime, then NumPy."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = usable_cores()
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return lambda: from_logits(session.run(None, {"pixels": pixels.astype(np.float32)[None]})[0][0])


def engine_side(engine: Engine, pixels: NDArray[np.uint8]) -> Labels:
    """As this project maps a tile."""
    labels: Labels = engine.predict({"AERIAL_RGBI": pixels}).labels[_TASK][0]
    return labels


def peers(network: UPerFuse, pixels: NDArray[np.uint8]) -> Iterator[tuple[str, Side]]:
    """What a user would pick instead, by name and precision."""
    whole = _Map(network).eval()
    for precision in ("float32", "bf16"):
        yield f"PyTorch {precision}", partial(torch_side, whole, pixels, half=precision == "bf16")
    compiled = torch.compile(whole)
    for precision in ("float32", "bf16"):
        yield f"torch.compile {precision}", partial(torch_side, compiled, pixels, half=precision == "bf16")
    example = {"pixels": torch.rand(2, *pixels.shape)}
    graph = export_graph(SegmentModule("whole", whole, example, ("logits",))).data
    for precision in ("float32", "bf16"):
        yield f"OpenVINO {precision}, then NumPy", openvino_side(graph, pixels, precision=precision)
    if find_spec("onnxruntime") is None:
        print("ONNX Runtime is passed over: onnxruntime is not installed")
    else:
        yield "ONNX Runtime float32, then NumPy", onnx_runtime_side(graph, pixels)


def records(seconds: dict[str, list[float]], *, precision: str, gflop: float, what: str, quick: bool) -> list[Record]:
    """The rows that are about a tile, from the times of all sides and our own's operations."""
    ours, short = f"UPerFuse {precision}", "UPerFuse int8"
    rows = {
        "tile-float32": _REFERENCE,
        "tile-bf16": "PyTorch bf16",
        "tile-graph": "OpenVINO bf16, then NumPy",
    }
    found = [
        record(
            key,
            ratios(seconds, of=peer, over=ours),
            ours=f"{ours}, {what}",
            peer=peer,
            most=most_of(seconds[peer], gflop=gflop, precision=precision),
            eight_bits=ratios(seconds, of=peer, over=short) if short in seconds else None,
            quick=quick,
        )
        for key, peer in rows.items()
    ]
    if short in seconds:
        gain = ratios(seconds, of=ours, over=short)
        found.append(record("tile-int8", gain, ours=f"{short}, {what}", peer=ours, quick=quick))
    return found


def measure(*, encoder: str | BackboneSpec, px: int, rounds: int, quick: bool) -> list[Record]:
    """Compare all sides, then time them in turns."""
    spec = NetworkSpec.flairhub(modalities={"AERIAL_RGBI": (3, px)}, tasks={_TASK: 19}, encoder=encoder)
    network = random_network(spec)
    pixels = np.random.default_rng(0).integers(0, 256, (3, px, px), np.uint8)
    sides: dict[str, Side] = dict(peers(network, pixels))
    with ExitStack() as stack:
        plan = stack.enter_context(plan_of(network, tile_px=px))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        scene = scene_of(aerial_raster(folder / "aerial.tif", side_px=2 * px))
        engine = stack.enter_context(Engine.load(plan, device="cpu"))
        engines = [engine, stack.enter_context(Engine.load(plan, device="cpu", precision="float32"))]
        short = stack.enter_context(eight_bit_engine(plan, scene=scene, quick=quick))
        engines += [] if short is None else [short]
        for each in engines:
            sides[f"UPerFuse {each.precision}"] = partial(engine_side, each, pixels)
        print(engine.describe())
        truth = sides[_REFERENCE]()
        for name, side in sides.items():
            equal = float((side() == truth).mean())
            wanted = _EQUAL[next((precision for precision in ("bf16", "int8") if precision in name), "float32")]
            print(f"{name}: {equal:.4%} of labels are those of {_REFERENCE}")
            assert equal >= wanted, f"{name} is not the same network, expected {wanted:.2%}"
        seconds = interleaved(sides, rounds=rounds, warm_up=1 if quick else 3)
        print("\n".join(report(seconds, against=_REFERENCE)))
        gflop = sum(segment.gflop for segment in engine.manifest.segments)
        return records(seconds, precision=engine.precision, gflop=gflop, what=f"one tile of {px} px", quick=quick)


def main() -> None:
    """Measure and hand over."""
    parser = options(__doc__, rounds=9)
    parser.add_argument("--px", type=int, default=512)
    asked = parser.parse_args()
    encoder, px, rounds = (TINY, 128, 1) if asked.quick else (SWIN_BASE, asked.px, asked.rounds)
    hand_over(measure(encoder=encoder, px=px, rounds=rounds, quick=asked.quick), asked.json)


if __name__ == "__main__":
    main()
