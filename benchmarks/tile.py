"""One 512 px aerial tile, Swin-B + UPerNet: raw uint8 in, labels and confidence out, against PyTorch on the same cores.

    python -m benchmarks.tile [--rounds 9]

The weights are random: they decide neither time nor memory. Labels of both sides are compared before anything is timed.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.timing import interleaved, report
from uperfuse.engine import Engine
from uperfuse.engine.flairhub import MODALITIES
from uperfuse.engine.plan.network import Provenance
from uperfuse.trainer.export import export_network
from uperfuse.trainer.network import NetworkSpec, UPerFuse

_NAME = "FLAIR-HUB_LC-A_RGB_swinbase-upernet"
_TASK = "AERIAL_LABEL-COSIA"


def torch_side(network: UPerFuse, pixels: NDArray[np.uint8], *, half: bool) -> tuple[Tensor, Tensor]:
    """Labels and confidence as a PyTorch user computes them."""
    facts = MODALITIES["AERIAL_RGBI"].statistics
    mean, std = (torch.tensor([facts[band][place] for band in "RGB"])[:, None, None] for place in (0, 1))
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=half):
        logits = network({"AERIAL_RGBI": ((torch.from_numpy(pixels).float() - mean) / std)[None]})[_TASK]
        confidence, labels = torch.softmax(logits.float(), dim=1).max(dim=1)
    return labels, confidence


def main() -> None:
    """Export, compare, time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    asked = parser.parse_args()
    torch.manual_seed(0)
    spec = NetworkSpec.flairhub(
        modalities={"AERIAL_RGBI": (3, 512)}, tasks={_TASK: 19}, encoder="swin_base_patch4_window12_384"
    )
    network = UPerFuse(spec).eval()
    pixels = np.random.default_rng(0).integers(0, 256, (3, 512, 512), np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        plan = Path(folder) / "swin-base.plan"
        provenance = Provenance(checkpoint="random", checkpoint_sha256="0" * 64, created="today", tools={})
        export_network(network, out=plan, name=_NAME, provenance=provenance)
        with Engine.load(plan) as engine, Engine.load(plan, precision="float32") as exact:
            equal = (
                exact.predict({"AERIAL_RGBI": pixels}).labels[_TASK]
                == torch_side(network, pixels, half=False)[0].numpy()
            )
            print(engine.describe())
            print(f"labels equal to PyTorch's in float32: {equal.mean():.4%}")
            sides = {
                "PyTorch float32": lambda: torch_side(network, pixels, half=False),
                "PyTorch bf16": lambda: torch_side(network, pixels, half=True),
                "UPerFuse float32": lambda: exact.predict({"AERIAL_RGBI": pixels}),
                f"UPerFuse {engine.precision}": lambda: engine.predict({"AERIAL_RGBI": pixels}),
            }
            print("\n".join(report(interleaved(sides, rounds=asked.rounds), against="PyTorch float32")))


if __name__ == "__main__":
    main()
