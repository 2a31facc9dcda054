"""One 512 px aerial tile, Swin-B + UPerNet, raw uint8 in, labels and confidence out, against what users would pick.

    python -m benchmarks.tile [--rounds 9] [--px 512]

The weights are random: they decide neither time nor memory. Labels of every side are compared before anything is timed.
A peer that is not installed is passed over with a word.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.timing import interleaved, report
from uperfuse.engine import Engine
from uperfuse.engine.backends.openvino_core import openvino_core
from uperfuse.engine.benchmark import machine
from uperfuse.engine.cores import usable_cores
from uperfuse.engine.flairhub import MODALITIES
from uperfuse.engine.plan.network import Provenance
from uperfuse.trainer.export import export_network
from uperfuse.trainer.export.graph import export_graph
from uperfuse.trainer.export.segments import SegmentModule
from uperfuse.trainer.network import NetworkSpec, UPerFuse

_NAME = "FLAIR-HUB_LC-A_RGB_swinbase-upernet"
_TASK = "AERIAL_LABEL-COSIA"
_REFERENCE = "PyTorch float32"
_EQUAL = {"float32": 0.9999, "bf16": 0.98}

Labels = NDArray[np.uint8]
Side = Callable[[], Labels]
"""Maps the tile and gives its labels; confidence is computed, too."""


class _Map(nn.Module):
    """The network from raw numbers to logits of every pixel, as one module."""

    def __init__(self, network: UPerFuse) -> None:
        super().__init__()
        self.network = network
        facts = MODALITIES["AERIAL_RGBI"].statistics
        self.mean, self.deviation = (
            nn.Buffer(torch.tensor([facts[band][place] for band in "RGB"])[:, None, None]) for place in (0, 1)
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


def main() -> None:
    """Export, compare, time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--px", type=int, default=512)
    asked = parser.parse_args()
    torch.manual_seed(0)
    spec = NetworkSpec.flairhub(
        modalities={"AERIAL_RGBI": (3, asked.px)}, tasks={_TASK: 19}, encoder="swin_base_patch4_window12_384"
    )
    network = UPerFuse(spec).eval()
    pixels = np.random.default_rng(0).integers(0, 256, (3, asked.px, asked.px), np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        plan = Path(folder) / "swin-base.plan"
        provenance = Provenance(checkpoint="random", checkpoint_sha256="0" * 64, created="today", tools={})
        sides: dict[str, Side] = dict(peers(network, pixels))
        export_network(network, out=plan, name=_NAME, provenance=provenance)
        with Engine.load(plan) as engine, Engine.load(plan, precision="float32") as exact:
            for each in dict.fromkeys((exact, engine)):
                sides[f"UPerFuse {each.precision}"] = partial(engine_side, each, pixels)
            print(f"{engine.describe()}\non {machine()}")
            truth = sides[_REFERENCE]()
            for name, side in sides.items():
                equal = float((side() == truth).mean())
                wanted = _EQUAL["bf16" if "bf16" in name else "float32"]
                print(f"{name}: {equal:.4%} of labels are those of {_REFERENCE}")
                assert equal >= wanted, f"{name} is not the same network, expected {wanted:.2%}"
            print("\n".join(report(interleaved(sides, rounds=asked.rounds), against=_REFERENCE)))


if __name__ == "__main__":
    main()
