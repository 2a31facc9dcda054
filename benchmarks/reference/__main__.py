"""FLAIR-HUB's own code against this project, with the same weights.

    python -m benchmarks.reference --reference DIR [--only tile --only frame --only series --only raster]
        [--rounds 5] [--side 1024] [--quick] [--json FILE] [--keep]

DIR is a checkout of https://github.com/IGNF/FLAIR-HUB; what it imports (segmentation-models-pytorch 0.4.0,
pytorch-lightning, and geopandas, scipy and tqdm for its zonal tool) must be installed beside it. Its model is built
with our weights, all of them, and its logits are compared with ours (1e-4 relative, 99.99 % of classes) before anything
is timed. `--keep` puts the rows into this machine's results, from which the README's table is written.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from uperfuse.engine import Engine
from uperfuse.engine.benchmark import machine
from uperfuse.engine.check import check_tiles_of

from .. import frame, raster, series
from ..networks import DATES, SWIN_BASE, TASK, plan_of, random_network, spec_of
from ..published import check_peer, inputs_of
from ..records import Record, hand_over, options, read, record, write
from ..run import machine_file, merge
from ..table import RESULTS, rewrite_readme
from ..timing import interleaved, ratios, report
from ..zonal import EQUAL, SHIPPED, Squares
from .checkout import Checkout, open_checkout
from .zonal import zonal_tool

_QUICK = "swin_tiny_patch4_window7_224"


def tile(checkout: Checkout, *, encoder: str, rounds: int, quick: bool) -> list[Record]:
    """One aerial tile, raw pixels to labels and confidence; the checkout's model gets prepared pixels."""
    network = random_network(spec_of("AERIAL_RGBI", encoder=encoder))
    theirs = checkout.forward_of(network)
    with plan_of(network) as plan, Engine.load(plan, device="cpu") as engine:
        tiles = check_tiles_of(engine.manifest, seed=0, dates=1)
        given = inputs_of(engine.manifest, tiles)
        check_peer(theirs, network, given)
        sides: dict[str, Callable[[], object]] = {
            "FLAIR-HUB": partial(frame.torch_labels, theirs, given),
            "UPerFuse": lambda: engine.predict(tiles).labels[TASK],
        }
        equal = float((np.asarray(sides["FLAIR-HUB"]()) == np.asarray(sides["UPerFuse"]())).mean())
        print(f"{equal:.4%} of labels are equal in {engine.precision}")
        seconds = interleaved(sides, rounds=rounds, warm_up=1)
        print("\n".join(report(seconds, against="FLAIR-HUB")))
        return [
            record(
                "tile-float32",
                ratios(seconds, of="FLAIR-HUB", over="UPerFuse"),
                ours=f"UPerFuse {engine.precision}, one tile of 512 px",
                peer=f"{checkout.peer.name}, from prepared pixels",
                quick=quick,
            )
        ]


def _frame(checkout: Checkout, *, encoder: str, rounds: int, quick: bool) -> list[Record]:
    dates = 5 if quick else DATES
    return frame.measure(encoder=encoder, dates=dates, rounds=rounds, quick=quick, peer=checkout.peer)


def _series(checkout: Checkout, *, rounds: int, quick: bool) -> list[Record]:
    count, dates = (2, 5) if quick else (64, DATES)
    return series.measure(count=count, dates=dates, rounds=rounds, quick=quick, peer=checkout.peer)


def _raster(checkout: Checkout, *, encoder: str, side_px: int, rounds: int, quick: bool) -> list[Record]:
    if not checkout.has_zonal_tool:
        raise FileNotFoundError(f"{checkout.source} holds no flair_zonal_detection; leave `--only raster` out")
    return raster.measure(
        encoder=encoder,
        side_px=side_px,
        peers={"raster-shipped": Squares(1024, 256) if quick else SHIPPED, "raster-equal": EQUAL},
        rounds=rounds,
        quick=quick,
        zonal=zonal_tool(checkout),
        name="FLAIR-HUB's zonal tool, float32, its model loaded, one square at a time",
    )


def main() -> int:
    """Compare, measure, hand over."""
    parser = options(__doc__, rounds=5)
    parser.add_argument("--reference", type=Path, required=True, help="checkout of FLAIR-HUB")
    parser.add_argument("--only", action="append", choices=("tile", "frame", "series", "raster"))
    parser.add_argument("--side", type=int, default=1024, help="of the raster, in pixels")
    parser.add_argument("--keep", action="store_true", help="also in this machine's results and the README")
    asked = parser.parse_args()
    if asked.keep and asked.quick:
        parser.error("--quick tells nothing, and is not kept; leave --keep out")
    try:
        checkout = open_checkout(asked.reference)
        common = {"rounds": 1 if asked.quick else asked.rounds, "quick": asked.quick}
        encoder = _QUICK if asked.quick else SWIN_BASE
        side_px = 600 if asked.quick else asked.side
        programs: dict[str, Callable[[], list[Record]]] = {
            "tile": partial(tile, checkout, encoder=encoder, **common),
            "frame": partial(_frame, checkout, encoder=encoder, **common),
            "series": partial(_series, checkout, **common),
            "raster": partial(_raster, checkout, encoder=encoder, side_px=side_px, **common),
        }
        found = [each for name in asked.only or programs for each in programs[name]()]
    except (FileNotFoundError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 1
    hand_over(found, asked.json)
    if asked.keep:
        out = RESULTS / machine_file(machine())
        write(merge(read(out) if out.exists() else [], found), out)
        rewrite_readme()
    return 0


if __name__ == "__main__":
    sys.exit(main())
