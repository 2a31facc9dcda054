"""U-TAE alone: series of 61 dates of 64 tiles, against PyTorch at equal precision.

    python -m benchmarks.series [--rounds 5] [--tiles 64] [--dates 61] [--quick] [--json FILE]

Our side runs the encoder of Sentinel-2 from raw numbers (`Engine.prime`), in float32, one tile after the other; PyTorch
takes all tiles at once, from prepared pixels, as the authors compute it. Also shown: PyTorch with our algebra, and
OpenVINO on the graph in the plan, which the engine cuts (`engine/backends/cpu/date_layers.py`). Logits are compared
before anything is timed.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from benchmarks.networks import DATES, TASK, plan_of, random_network, spec_of
from benchmarks.published import AUTHORS_WAY, Peer, inputs_of
from benchmarks.records import Record, hand_over, options, record
from benchmarks.timing import interleaved, ratios, report
from uperfuse.engine import Engine, Plan
from uperfuse.engine.agreement import relative_error
from uperfuse.engine.backends.cpu.graphs import fix_shapes
from uperfuse.engine.backends.openvino_core import openvino_core
from uperfuse.engine.backends.segment_graph import segment_graph
from uperfuse.engine.check import check_tiles_of
from uperfuse.engine.flairhub import dates_key

_SERIES = "SENTINEL2_TS"
_OURS, _PEER, _ABSORBED = "UPerFuse float32", "PyTorch float32", "PyTorch float32, our algebra"
_GRAPH = "OpenVINO float32, the plan's graph"
_WORST = 1e-4


def tiles_of(engine: Engine, *, count: int, dates: int) -> dict[str, Any]:
    """Series that differ from tile to tile."""
    drawn = [check_tiles_of(engine.manifest, seed=seed, dates=dates) for seed in range(count)]
    return {name: [each[name][0] for each in drawn] for name in (_SERIES, dates_key(_SERIES))}


def graph_side(
    path: Path, inputs: Mapping[str, torch.Tensor], days: Mapping[str, torch.Tensor]
) -> Callable[[], object]:
    """The encoder's graph as it is in a plan, by OpenVINO, one tile after the other."""
    pixels, each_day = inputs[_SERIES].numpy(), days[_SERIES].numpy()
    mask = np.ones_like(each_day[:1])
    with Plan.open(path) as plan:
        segment = plan.manifest.segment(f"encoder:{_SERIES}")
        model = openvino_core().read_model(io.BytesIO(segment_graph(plan, segment.name)))
    fix_shapes(model, segment, dates=mask.shape[1])
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    request = openvino_core().compile_model(model, "CPU", settings).create_infer_request()
    return lambda: [
        request.infer([pixels[tile : tile + 1], each_day[tile : tile + 1], mask]) for tile in range(len(pixels))
    ]


def measure(*, count: int, dates: int, rounds: int, quick: bool, peer: Peer = AUTHORS_WAY) -> list[Record]:
    """Compare all sides, then time them in turns."""
    network = random_network(spec_of(_SERIES))
    published = peer.build(network)
    with plan_of(network) as plan, Engine.load(plan, device="cpu", precision="float32") as engine:
        print(engine.describe())
        tiles = tiles_of(engine, count=count, dates=dates)
        inputs, days = inputs_of(engine.manifest, tiles)
        every = {name: torch.ones_like(each) for name, each in days.items()}

        def in_torch(forward: Callable[..., Mapping[str, torch.Tensor]], *given: object) -> torch.Tensor:
            with torch.inference_mode():
                return forward(inputs, days, *given)[TASK]

        sides: dict[str, Callable[[], object]] = {
            _OURS: lambda: engine.prime(tiles),
            _PEER: lambda: in_torch(published),
            _ABSORBED: lambda: in_torch(network, every),
            _GRAPH: graph_side(plan, inputs, days),
        }
        first = {name: values[:2] for name, values in tiles.items()}
        ours = engine.predict(first, logits=True).logits[TASK]
        for name, logits in ((_PEER, in_torch(published)), (_ABSORBED, in_torch(network, every))):
            size = (engine.manifest.label_px,) * 2
            theirs = F.interpolate(logits[:2], size=size, mode="bilinear", align_corners=False).numpy()
            error = relative_error(ours, np.asarray(theirs))
            print(f"{name}: logits differ by {error:.1e}")
            assert error <= _WORST, f"{name} is not the same network, expected {_WORST:.0e}"
        seconds = interleaved(sides, rounds=rounds, warm_up=1)
        print("\n".join(report(seconds, against=_PEER)))
        return [
            record(
                "series",
                ratios(seconds, of=_PEER, over=_OURS),
                ours=f"UPerFuse float32, encoder of {_SERIES} from raw numbers, {dates} dates, {count} tiles",
                peer=f"{peer.name}, from prepared pixels",
                quick=quick,
            )
        ]


def main() -> None:
    """Measure and hand over."""
    parser = options(__doc__, rounds=5)
    parser.add_argument("--tiles", type=int, default=64)
    parser.add_argument("--dates", type=int, default=DATES)
    asked = parser.parse_args()
    count, dates, rounds = (2, 5, 1) if asked.quick else (asked.tiles, asked.dates, asked.rounds)
    hand_over(measure(count=count, dates=dates, rounds=rounds, quick=asked.quick), asked.json)


if __name__ == "__main__":
    main()
