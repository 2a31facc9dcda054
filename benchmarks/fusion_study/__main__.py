"""What each sensor adds, what its absence costs, and what helps rare classes, on simulated land.

    python -m benchmarks.fusion_study [--seeds 3] [--workers 2] [--only all,dropout] [--out build/fusion-study]

Every run is kept in the folder `--out` as soon as it is finished, so that the study can be stopped and goes on. Pages,
plots and all results are written when the last run is finished, from what the folder holds.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from .kinds import KINDS, Land, Settings
from .page import publish
from .processes import run_all
from .study import Study
from .world import simulated

_FIRST_SEED = 1


def main(arguments: Sequence[str] | None = None) -> None:
    """Simulate, train, score, write."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fusion_study",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seeds", type=int, default=3, help="runs of each kind")
    parser.add_argument("--workers", type=int, default=2, help="processes, of one thread each")
    parser.add_argument("--only", help=f"kinds to run, joined by commas: {', '.join(KINDS)}")
    parser.add_argument(
        "--first-steps", type=int, default=Settings().first_steps, help="updates of each sensor's encoder before"
    )
    parser.add_argument("--steps", type=int, default=Settings().steps, help="updates of each network's weights")
    parser.add_argument(
        "--more-steps", type=int, default=Settings().more_steps, help="updates of networks that begin with one of these"
    )
    parser.add_argument("--patches", type=int, default=Land().patches, help="of the simulated data set")
    parser.add_argument("--out", type=Path, default=Path("build/fusion-study"), help="folder of data set and results")
    parser.add_argument("--pages", type=Path, default=Path("docs"), help="folder of the page and its plots")
    parser.add_argument(
        "--json", type=Path, default=Path(__file__).parent / "results.json", help="file for all results together"
    )
    asked = parser.parse_args(arguments)
    kinds = [*KINDS] if asked.only is None else asked.only.split(",")
    unknown = [name for name in kinds if name not in KINDS]
    if unknown:
        parser.error(f"{', '.join(unknown)} is no kind of run; choose from {', '.join(KINDS)}")
    land = Land(patches=asked.patches)
    steps = {"first_steps": asked.first_steps, "steps": asked.steps, "more_steps": asked.more_steps}
    settings = replace(Settings(), **steps)
    root = simulated(asked.out, land, workers=asked.workers)
    # runs of other settings have another folder, so that they cannot mix
    runs = asked.out / "-".join(map(str, ("runs", land.patches, land.seed, *steps.values())))
    seeds = range(_FIRST_SEED, _FIRST_SEED + asked.seeds)
    run_all(root, runs, [(name, seed) for seed in seeds for name in kinds], settings, workers=asked.workers)
    command = "python -m benchmarks.fusion_study" + "".join(
        f" --{name} {value}"
        for name, value in (
            ("seeds", asked.seeds),
            ("first-steps", asked.first_steps),
            ("steps", asked.steps),
            ("more-steps", asked.more_steps),
            ("patches", asked.patches),
        )
        if value != parser.get_default(name.replace("-", "_"))
    )
    study = Study.gather(runs, root, land, settings, command=command)
    study.write(asked.json)
    publish(study, asked.pages)


if __name__ == "__main__":
    main()
