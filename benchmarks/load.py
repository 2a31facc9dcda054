"""`Engine.load` of a plan that was seen before, in a new process each time.

    python -m benchmarks.load [PLAN] [--rounds 9] [--quick] [--json FILE]

Imports are done before the clock starts, and told apart; files are in the system's cache, as OpenVINO's compiled models
are in ours. Each process predicts once after loading: a plan that loads and does not map has not been loaded.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.records import Record, hand_over, options, record
from uperfuse.engine import Engine
from uperfuse.engine.benchmark import tiles_for

SMALL_PLAN = Path(__file__).resolve().parent.parent / "models" / "uperfuse-small.plan"

_CHILD = """
import sys, time
start = time.perf_counter()
from uperfuse.engine import Engine
from uperfuse.engine.benchmark import tiles_for
imported = time.perf_counter()
with Engine.load(sys.argv[1], device="cpu") as engine:
    loaded = time.perf_counter()
    found = engine.predict(tiles_for(engine.manifest, count=1)).labels
    assert all(labels.max() < 255 for labels in found.values())
print(imported - start, loaded - imported)
"""


def load_once(plan: Path) -> tuple[float, float]:
    """Seconds of the imports and of loading, in a process of its own.

    Raises:
        RuntimeError: the process failed.
    """
    done = subprocess.run([sys.executable, "-c", _CHILD, str(plan)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{plan} was not loaded in a process of its own: {done.stderr.strip().splitlines()[-1]}")
    imports, load = map(float, done.stdout.split())
    return imports, load


def measure(plan: Path, *, rounds: int, quick: bool) -> list[Record]:
    """See the plan once, then load it again and again."""
    with Engine.load(plan, device="cpu") as engine:
        engine.predict(tiles_for(engine.manifest, count=1))
        ours = f"Engine.load of {plan.name}, {engine.precision}, in a new process"
    imports, loads = zip(*(load_once(plan) for _ in range(rounds)), strict=True)
    print(f"imports took {min(imports):.2f} to {max(imports):.2f} s beside")
    return [record("load", loads, ours=ours, note="imports are not counted", quick=quick)]


def main() -> None:
    """Measure and hand over."""
    parser = options(__doc__, rounds=9)
    parser.add_argument("plan", type=Path, nargs="?", default=SMALL_PLAN)
    asked = parser.parse_args()
    hand_over(measure(asked.plan, rounds=1 if asked.quick else asked.rounds, quick=asked.quick), asked.json)


if __name__ == "__main__":
    main()
