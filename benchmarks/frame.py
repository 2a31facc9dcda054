"""An aerial frame over ground that is known: LC-L with five modalities primed, against all that could be done instead.

    python -m benchmarks.frame [--rounds 9] [--quick] [--json FILE]

Sides: the frame alone, the others primed, in 8 bits, too; the aerial-only network of the same backbone, in this engine;
the whole network for every frame, in this engine and in PyTorch as its authors compute it (from prepared pixels).
Weights are random. Maps of the frame must equal those of the whole, bit for bit, and PyTorch's in nearly all pixels.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.eight_bits import eight_bit_engine
from benchmarks.networks import DATES, LC_L, SWIN_BASE, TASK, TINY, plan_of, random_network, spec_of
from benchmarks.product_rate import most_of
from benchmarks.published import AUTHORS_WAY, Forward, Inputs, Peer, check_peer, inputs_of
from benchmarks.rasters import simulated_scene
from benchmarks.records import Record, hand_over, options, record
from benchmarks.timing import interleaved, ratios, report
from uperfuse.engine import Engine
from uperfuse.engine.check import check_tiles_of
from uperfuse.trainer.network import BackboneSpec

_FRAME, _AERIAL, _ALL, _PEER = "frame, five primed", "aerial-only", "all six", "PyTorch float32, all six"
_SHORT = "frame, five primed, in 8 bits"
_BASE = "AERIAL_RGBI"
_EQUAL = {"float32": 0.9999, "bf16": 0.98, "int8": 0.7}


def torch_labels(network: Forward, given: Inputs) -> NDArray[np.uint8]:
    """Labels as a PyTorch user makes them; confidence is computed, too."""
    with torch.inference_mode():
        _, labels = torch.softmax(network(*given)[TASK], dim=1).max(dim=1)
    found: NDArray[np.uint8] = labels.numpy().astype(np.uint8)
    return found


def measure(
    *, encoder: str | BackboneSpec, dates: int, rounds: int, quick: bool, peer: Peer = AUTHORS_WAY
) -> list[Record]:
    """Compare all sides, then time them in turns."""
    network, alone = (random_network(spec_of(*names, encoder=encoder)) for names in (LC_L, (_BASE,)))
    with (
        tempfile.TemporaryDirectory() as folder,
        plan_of(network) as plan,
        plan_of(alone) as aerial_plan,
        Engine.load(plan, device="cpu") as engine,
        Engine.load(aerial_plan, device="cpu") as aerial,
        eight_bit_engine(plan, scene=simulated_scene(Path(folder), engine.manifest), quick=quick) as short,
    ):
        print(engine.describe())
        tiles = check_tiles_of(engine.manifest, seed=0, dates=dates)
        frame = {_BASE: tiles[_BASE]}
        others = {name: values for name, values in tiles.items() if name != _BASE}
        area = engine.prime(others)
        given = inputs_of(engine.manifest, tiles)
        theirs = peer.build(network)
        check_peer(theirs, network, given)
        sides: dict[str, Callable[[], object]] = {
            _FRAME: lambda: area.predict(frame).labels[TASK],
            _AERIAL: lambda: aerial.predict(frame).labels[TASK],
            _ALL: lambda: engine.predict(tiles).labels[TASK],
            _PEER: partial(torch_labels, theirs, given),
        }
        if short is not None:
            short_area = short.prime(others)
            sides[_SHORT] = lambda: short_area.predict(frame).labels[TASK]
        maps = {name: np.asarray(side()) for name, side in sides.items()}
        assert np.array_equal(maps[_FRAME], maps[_ALL]), "a primed frame is not the same map"
        for name, each in ((_FRAME, engine), (_SHORT, short)):
            if each is not None:
                equal = float((maps[name] == maps[_PEER]).mean())
                print(f"{name}: {equal:.4%} of labels are those of {_PEER}")
                assert equal >= _EQUAL[each.precision], f"not the same network, expected {_EQUAL[each.precision]:.2%}"
        seconds = interleaved(sides, rounds=rounds, warm_up=1)
        print("\n".join(report(seconds, against=_PEER)))
        ours = f"UPerFuse {engine.precision}, frame with five primed modalities, series of {dates} dates"
        return [
            record(
                "frame-aerial",
                ratios(seconds, of=_FRAME, over=_AERIAL),
                ours=ours,
                peer=f"UPerFuse {aerial.precision}, aerial-only network of the same backbone",
                quick=quick,
            ),
            record(
                "frame-all",
                ratios(seconds, of=_PEER, over=_FRAME),
                ours=ours,
                peer=f"{peer.name}, all six modalities, from prepared pixels",
                most=most_of(
                    seconds[_PEER],
                    gflop=sum(segment.gflop for segment in aerial.manifest.segments),
                    precision=engine.precision,
                ),
                eight_bits=ratios(seconds, of=_PEER, over=_SHORT) if short is not None else None,
                quick=quick,
            ),
        ]


def main() -> None:
    """Measure and hand over."""
    asked = options(__doc__, rounds=9).parse_args()
    found = measure(
        encoder=TINY if asked.quick else SWIN_BASE,
        dates=5 if asked.quick else DATES,
        rounds=1 if asked.quick else asked.rounds,
        quick=asked.quick,
    )
    hand_over(found, asked.json)


if __name__ == "__main__":
    main()
