"""`classify` against PyTorch: x4 upsampling (align_corners), softmax, max, on the same cores.

    python -m benchmarks.classify [--classes 19] [--px 128] [--threads 2] [--rounds 40]

All sides take turns within one run, so that whatever else the machine does falls on all of them. Before each call there
is a pause, because PyTorch's threads keep a core busy for a while after their work is done.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional as F

from uperfuse.engine import _native
from uperfuse.engine.resize import axis_resize

PAUSE_S = 0.02


def torch_side(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    maps = F.interpolate(logits, scale_factor=4, mode="bilinear", align_corners=True)
    confidence, labels = torch.softmax(maps, dim=1).max(dim=1)
    return labels, confidence


def interleaved(sides: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each call, after a few that do not count."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for count in range(-3, rounds):
        for name, call in sides.items():
            time.sleep(PAUSE_S)
            start = time.perf_counter()
            call()
            if count >= 0:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, default=19)
    parser.add_argument("--px", type=int, default=128, help="side of the logits before upsampling")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=40)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    shape = (asked.classes, asked.px, asked.px)
    logits = np.random.default_rng(0).normal(0, 4, shape).astype(np.float32)
    tensor = torch.from_numpy(logits)[None]
    axis = axis_resize(asked.px, steps=[(4 * asked.px, True)])
    out = (np.empty((4 * asked.px, 4 * asked.px), np.uint8), np.empty((4 * asked.px, 4 * asked.px), np.uint8))

    def native(level: str) -> Callable[[], object]:
        return lambda: _native.classify(logits, rows=axis, columns=axis, out=out, threads=asked.threads, level=level)

    sides: dict[str, Callable[[], object]] = {level: native(level) for level in _native.levels()}
    labels, _ = _native.classify(logits, rows=axis, columns=axis, threads=asked.threads)
    agreement = float((labels == torch_side(tensor)[0][0].numpy()).mean())
    seconds = interleaved({"torch": lambda: torch_side(tensor), **sides}, asked.rounds)
    print(f"{asked.classes} classes, {asked.px} -> {4 * asked.px} px, {asked.threads} threads, {asked.rounds} rounds")
    print(f"labels equal to PyTorch's: {100 * agreement:.4f} %")
    reference = statistics.median(seconds["torch"])
    for name, times in seconds.items():
        low, middle, high = statistics.quantiles(times, n=4)
        ratio = f"{reference / middle:6.1f} x faster than torch" if name != "torch" else ""
        print(f"{name:>10}: median {1e3 * middle:7.3f} ms, quartiles {1e3 * low:7.3f} to {1e3 * high:7.3f} ms {ratio}")


if __name__ == "__main__":
    main()
