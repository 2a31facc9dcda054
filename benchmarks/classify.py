"""`classify` against PyTorch: x4 upsampling (align_corners), softmax, max, on the same cores.

    python -m benchmarks.classify [--classes 19] [--px 128] [--threads 2] [--rounds 40]

All sides take turns within one run.
"""

import argparse
from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional as F

from benchmarks.timing import interleaved, report
from uperfuse.engine import _native
from uperfuse.engine.resize import axis_resize


def torch_side(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    maps = F.interpolate(logits, scale_factor=4, mode="bilinear", align_corners=True)
    confidence, labels = torch.softmax(maps, dim=1).max(dim=1)
    return labels, confidence


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
    seconds = interleaved({"torch": lambda: torch_side(tensor), **sides}, rounds=asked.rounds)
    print(f"{asked.classes} classes, {asked.px} -> {4 * asked.px} px, {asked.threads} threads, {asked.rounds} rounds")
    print(f"labels equal to PyTorch's: {100 * agreement:.4f} %")
    print("\n".join(report(seconds, against="torch")))


if __name__ == "__main__":
    main()
