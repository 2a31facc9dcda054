"""The checkout's zonal tool over a raster, step by step as its `run_inference` does it.

Its own function prints a failure and goes on: here the steps are called one by one, and a failure is one. The model is
made once, before the clock starts, as our engine is loaded before it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import rasterio
import yaml
from safetensors.torch import save_file
from torch.utils.data import DataLoader

from uperfuse.engine.flairhub import MODALITIES
from uperfuse.trainer.network import BACKBONES, UPerFuse

from ..zonal import Squares
from .checkout import Checkout, quiet, without_downloads

__all__ = ["zonal_config", "zonal_tool"]

_BASE = "AERIAL_RGBI"


def zonal_config(network: UPerFuse, *, raster: Path, out: Path, weights: Path, squares: Squares) -> dict[str, Any]:
    """The tool's configuration for one aerial raster in the published networks' bands."""
    facts = MODALITIES[_BASE]
    backbone = next(name for name, each in BACKBONES.items() if each == network.spec.images[0].backbone)
    means, deviations = ([facts.statistics[band][place] for band in facts.usual] for place in (0, 1))
    return {
        "output_path": str(out),
        "output_name": "map",
        "write_dataframe": False,
        "output_type": "argmax",
        "cog_conversion": False,
        "model_weights": str(weights),
        "use_gpu": False,
        "batch_size": 1,
        "num_worker": 0,
        "img_pixels_detection": squares.side_px,
        "margin": squares.margin_px,
        "output_px_meters": facts.gsd_m,
        "monotemp_arch": f"{backbone}-{network.spec.decoder}",
        "multitemp_model_ref_date": "05-15",
        "modalities": {
            "inputs": {name: name == _BASE for name in MODALITIES},
            _BASE: {
                "input_img_path": str(raster),
                "channels": list(range(1, len(facts.usual) + 1)),
                "normalization": {"type": "custom", "means": means, "stds": deviations},
            },
        },
        "tasks": [
            {"name": task.name, "active": True, "class_names": {k: str(k) for k in range(task.classes)}}
            for task in network.spec.tasks
        ],
    }


def zonal_tool(checkout: Checkout) -> Callable[[UPerFuse, Path, Path, Squares], Callable[[], object]]:
    """What makes a side of `benchmarks.raster` from the checkout's tool."""

    def side(network: UPerFuse, raster: Path, out: Path, squares: Squares) -> Callable[[], object]:
        tool: Any = checkout.module("flair_zonal_detection.inference")
        folder = Path(tempfile.mkdtemp(dir=out.parent))
        save_file({f"model.{key}": value for key, value in network.state_dict().items()}, folder / "a.safetensors")
        wanted = zonal_config(network, raster=raster, out=folder, weights=folder / "a.safetensors", squares=squares)
        (folder / "zonal.yaml").write_text(yaml.safe_dump(wanted), encoding="utf-8")
        with quiet(), without_downloads():
            config = tool.prep_config(str(folder / "zonal.yaml"))
            sizes = tool.compute_patch_sizes(config)
            model = tool.build_inference_model(config, sizes).to(config["device"])
        _check_weights(network, model)

        def run() -> None:
            with quiet():
                places = tool.generate_patches_from_reference(config)
                tiles = tool.prep_dataset(config, places, sizes)
                loader = DataLoader(tiles, batch_size=config["batch_size"], num_workers=config["num_worker"])
                with rasterio.open(raster) as base:
                    files, written = tool.init_outputs(config, base)
                    tool.inference_and_write(model, loader, places, config, files, base)
            Path(next(iter(written.values()))).replace(out)

        return run

    return side


def _check_weights(network: UPerFuse, model: Any) -> None:
    """The tool passes over what does not fit; a random layer would be timed as if it were ours."""
    theirs = model.state_dict()
    for name, value in network.state_dict().items():
        assert name in theirs, f"the zonal tool's model has no {name}"
        assert theirs[name].equal(value), f"the zonal tool left {name} as it was"
