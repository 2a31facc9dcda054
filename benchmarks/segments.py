"""A plan's segments against OpenVINO on the graph as PyTorch exports it, at the same tile, precision and threads.

    python -m benchmarks.segments [--encoder swin-tiny --encoder swin-base] [--px 512 --px 768]
        [--precision bf16 --precision float32] [--threads 2] [--clock wall] [--rounds 15] [--layers] [--markdown FILE]

One side is the network from prepared pixels to logits at a quarter of the tile, in one graph that nobody touched; the
other is the plan made from it, through the sessions of the CPU back end. Weights are random: they decide no time.
Logits are compared before anything is timed. Both take turns, and a round gives one ratio: its median and quartiles
bear what else runs on the machine better than a ratio of two medians. Where other work takes turns on the same cores,
`--clock processor --threads 1` counts what this process itself was given of a core, instead of what passed on the wall.
"""

from __future__ import annotations

import argparse
import io
import os
import platform
import statistics
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

import numpy as np
import openvino as ov
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.timing import interleaved, wall_clock
from uperfuse.engine.agreement import relative_error
from uperfuse.engine.backends.cpu.compiling import HINTS
from uperfuse.engine.backends.cpu.segments import CpuSegments
from uperfuse.engine.backends.openvino_core import openvino_core
from uperfuse.engine.benchmark import family_of
from uperfuse.engine.cores import usable_cores
from uperfuse.engine.plan.network import Provenance
from uperfuse.engine.plan.plan import Plan
from uperfuse.trainer.export import export_network
from uperfuse.trainer.export.graph import export_graph
from uperfuse.trainer.export.segments import SegmentModule
from uperfuse.trainer.network import NetworkSpec, UPerFuse

_ENCODERS = {"swin-tiny": "swin_tiny_patch4_window7_224", "swin-base": "swin_base_patch4_window12_384"}
_MODALITY, _TASK = "AERIAL_RGBI", "AERIAL_LABEL-COSIA"
_CHANNELS, _PROFILED = 4, 9
_WORST = {"float32": 1e-4, "bf16": 0.05}

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Result:
    """One network at one tile and precision.

    Attributes:
        name: what it is.
        seconds: of both sides, in turns: "PyTorch's graph" and "segments".
        difference: relative error between their logits.
        layers: milliseconds and number of layers by kind, of both sides; empty where nobody asked.
    """

    name: str
    seconds: Mapping[str, Sequence[float]]
    difference: float
    layers: Mapping[str, Mapping[str, tuple[float, int]]]

    @property
    def ratios(self) -> list[float]:
        """How many times as fast the segments were, round by round."""
        before, after = self.seconds.values()
        return [one / other for one, other in zip(before, after, strict=True)]


class _Whole(nn.Module):
    """The network as one module, from pixels to logits at a quarter of the tile."""

    def __init__(self, network: UPerFuse) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:
        return self.network.decode(_TASK, self.network.encode_image(_MODALITY, pixels))


def network_of(encoder: str, *, px: int) -> UPerFuse:
    """A network of one aerial image with random weights, ready for tiles of `px`."""
    torch.manual_seed(0)
    spec = NetworkSpec.flairhub(modalities={_MODALITY: (_CHANNELS, 512)}, tasks={_TASK: 19}, encoder=_ENCODERS[encoder])
    network = UPerFuse(spec).eval()
    network.set_tile(_MODALITY, (px, px))
    return network


def processor_clock(call: Callable[[], object]) -> float:
    """Seconds of a core that a call takes."""
    start = time.process_time()
    call()
    return time.process_time() - start


_CLOCKS = {"wall": wall_clock, "processor": processor_clock}


def untouched(network: UPerFuse, *, px: int) -> bytes:
    """The network as PyTorch exports it."""
    pixels = torch.randn(2, _CHANNELS, px, px)
    return export_graph(SegmentModule("whole", _Whole(network), {"pixels": pixels}, ("logits",))).data


def compiled_whole(graph: bytes, *, px: int, precision: str, threads: int) -> ov.CompiledModel:
    """PyTorch's graph, compiled as OpenVINO's users compile one for a single tile."""
    core = openvino_core()
    model = core.read_model(io.BytesIO(graph))
    model.reshape([1, _CHANNELS, px, px])
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": HINTS[precision],
        "INFERENCE_NUM_THREADS": threads,
    }
    return core.compile_model(model, "CPU", settings)


def measure(
    plan: Plan,
    graph: bytes,
    *,
    name: str,
    px: int,
    precision: str,
    threads: int,
    clock: str,
    rounds: int,
    layers: bool,
) -> Result:
    """Compare both sides, time them in turns and, where asked, count what their layers take.

    Raises:
        AssertionError: their logits differ by more than rounding.
    """
    pixels = np.random.default_rng(0).normal(0, 1, (1, _CHANNELS, px, px)).astype(np.float32)
    whole = compiled_whole(graph, px=px, precision=precision, threads=threads)
    request = whole.create_infer_request()
    segments = CpuSegments(plan, precision=precision, threads=threads)
    try:
        with segments.session() as session:

            def theirs() -> Array:
                return np.array(next(iter(request.infer([pixels]).values())))

            def ours() -> Array:
                if segments.joined:
                    return session.map(_MODALITY, pixels, ())[0]
                return session.decode(_TASK, session.encode_image(_MODALITY, pixels), ())

            difference = relative_error(ours(), theirs())
            assert difference <= _WORST[precision], f"{name}: logits differ by {difference:.1e}"
            sides = {"PyTorch's graph": theirs, "segments": ours}
            seconds = interleaved(sides, rounds=rounds, warm_up=2, seconds_of=_CLOCKS[clock])
    finally:
        segments.close()
    counted = _count(plan, graph, px=px, precision=precision, threads=threads) if layers else {}
    return Result(name, seconds, difference, counted)


def _count(
    plan: Plan, graph: bytes, *, px: int, precision: str, threads: int
) -> dict[str, dict[str, tuple[float, int]]]:
    """OpenVINO's counters by kind of layer; compiled anew, for they cost time themselves."""
    core = openvino_core()
    core.set_property("CPU", {"PERF_COUNT": True})
    try:
        whole = compiled_whole(graph, px=px, precision=precision, threads=threads)
        segments = CpuSegments(plan, precision=precision, threads=threads)
        names = ["joined"] if segments.joined else [f"encoder:{_MODALITY}", f"decode:{_TASK}"]
        sides = {"PyTorch's graph": [whole], "segments": [segments.compiled(name) for name in names]}
        counters = {name: [_Counters(model) for model in models] for name, models in sides.items()}
        for _ in range(_PROFILED):
            for each in (each for some in counters.values() for each in some):
                each.run()
        return {name: _sum(some) for name, some in counters.items()}
    finally:
        core.set_property("CPU", {"PERF_COUNT": False})


class _Counters:
    """OpenVINO's counters of one model: of every layer its fastest run counts."""

    def __init__(self, model: ov.CompiledModel) -> None:
        self._request = model.create_infer_request()
        rng = np.random.default_rng(0)
        self._inputs = [rng.normal(0, 1, tuple(port.get_shape())).astype(np.float32) for port in model.inputs]
        self.fastest: dict[str, tuple[str, float]] = {}

    def run(self) -> None:
        """Run the model once more."""
        self._request.infer(self._inputs)
        for info in self._request.profiling_info:
            taken = 1e3 * info.real_time.total_seconds()
            if taken > 0:
                _, before = self.fastest.get(info.node_name, ("", taken))
                self.fastest[info.node_name] = (info.node_type, min(taken, before))


def _sum(some: Sequence[_Counters]) -> dict[str, tuple[float, int]]:
    """Milliseconds and number of layers of each kind."""
    total: defaultdict[str, float] = defaultdict(float)
    count: Counter[str] = Counter()
    for kind, taken in (layer for each in some for layer in each.fastest.values()):
        total[kind] += taken
        count[kind] += 1
    return {kind: (total[kind], count[kind]) for kind in total}


def results(asked: argparse.Namespace) -> Iterator[Result]:
    """Everything asked for, one network and tile after the other."""
    provenance = Provenance(checkpoint="random", checkpoint_sha256="0" * 64, created="today", tools={})
    with tempfile.TemporaryDirectory() as folder:
        # what is compiled with counters must not be found by anybody else
        os.environ["XDG_CACHE_HOME"] = folder
        for encoder in asked.encoder or _ENCODERS:
            for px in asked.px or (512, 768):
                network, path = network_of(encoder, px=px), Path(folder) / f"{encoder}-{px}.plan"
                graph = untouched(network, px=px)
                export_network(network, out=path, name=encoder, provenance=provenance, tile_px=px)
                for precision in asked.precision or HINTS:
                    with Plan.open(path) as plan:
                        yield measure(
                            plan,
                            graph,
                            name=f"{encoder}, {px} px, {precision}",
                            px=px,
                            precision=precision,
                            threads=asked.threads,
                            clock=asked.clock,
                            rounds=asked.rounds,
                            layers=asked.layers,
                        )
                path.unlink()


def line_of(result: Result) -> str:
    """A result as a row of the table."""
    before, after = (1e3 * statistics.median(times) for times in result.seconds.values())
    low, middle, high = statistics.quantiles(result.ratios, n=4)
    return (
        f"| {result.name} | {before:.0f} | {after:.0f} | **{middle:.2f}** ({low:.2f} to {high:.2f}) "
        f"| {result.difference:.1e} |"
    )


def layers_of(result: Result) -> Iterator[str]:
    """A result's layers as a table, the costliest kind first."""
    before, after = result.layers.values()
    kinds = sorted({*before, *after}, key=lambda kind: -max(side.get(kind, (0, 0))[0] for side in (before, after)))
    yield f"\n{result.name}:\n"
    yield "| kind of layer | PyTorch's graph: ms | layers | segments: ms | layers |"
    yield "| --- | ---: | ---: | ---: | ---: |"
    for kind in kinds:
        (one, some), (other, others) = (side.get(kind, (0.0, 0)) for side in (before, after))
        yield f"| {kind} | {one:.1f} | {some} | {other:.1f} | {others} |"
    one, other = (sum(taken for taken, _ in side.values()) for side in (before, after))
    yield f"| all | {one:.1f} | | {other:.1f} | |"


HEAD = """| network, tile, precision | PyTorch's graph, ms | segments, ms | times as fast (quartiles) | difference |
| --- | ---: | ---: | --- | --- |"""


def machine(threads: int, *, clock: str) -> str:
    """What was measured on, in a line."""
    name = openvino_core().get_property("CPU", "FULL_DEVICE_NAME").strip() + family_of()
    tools = ", ".join(f"{tool} {version(tool)}" for tool in ("openvino", "torch", "timm", "onnx"))
    day = datetime.now(timezone.utc).strftime("%Y-%m-%d")
    cores = usable_cores()
    return f"{day}, {name}, {platform.machine()}, {cores} cores; {threads} threads, {clock} clock; {tools}"


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", action="append", choices=tuple(_ENCODERS), help="may repeat; both where left out")
    parser.add_argument("--px", action="append", type=int, help="side of a tile; may repeat; 512 and 768")
    parser.add_argument("--precision", action="append", choices=tuple(HINTS), help="may repeat; both where left out")
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--clock", choices=tuple(_CLOCKS), default="wall")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--layers", action="store_true", help="count what kinds of layers take, too")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables there, too")
    asked = parser.parse_args()
    lines = [machine(asked.threads, clock=asked.clock), "", *HEAD.splitlines()]
    tables: list[str] = []
    print("\n".join(lines), flush=True)
    start = time.perf_counter()
    for result in results(asked):
        lines.append(line_of(result))
        print(lines[-1], flush=True)
        tables += layers_of(result) if result.layers else ()
    load = os.getloadavg()[1] if hasattr(os, "getloadavg") else float("nan")
    tables.append(f"\nLoad of the machine over its last five minutes: {load:.1f}, this run's own threads among it.")
    print("\n".join(tables), f"\n{time.perf_counter() - start:.0f} s")
    if asked.markdown:
        asked.markdown.write_text("\n".join([*lines, *tables, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
