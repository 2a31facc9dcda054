"""Plans with the 8-bit form that `uperfuse build --device cpu` gives them, for rows that are measured with it, too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from uperfuse.engine import Engine
from uperfuse.engine.builder.processor import build_for_processor
from uperfuse.engine.errors import BackendError
from uperfuse.engine.rasters import Scene

__all__ = ["LIMIT", "eight_bit_engine"]

LIMIT = 0.5
"""Points of mean IoU that the form may lose: what the command allows where it is not told."""

_ANY_LOSS = 100.0


@contextmanager
def eight_bit_engine(plan: Path, *, scene: Scene, quick: bool) -> Iterator[Engine | None]:
    """The plan's 8-bit form, loaded; None where this processor's 8-bit products are wrong.

    Args:
        plan: changed, for the form lies beside what it has.
        scene: gives ranges and says what is lost.
        quick: whether the network is tiny: with random weights it may lose anything.
    """
    if not _built(plan, scene, limit=_ANY_LOSS if quick else LIMIT):
        yield None
        return
    with Engine.load(plan, device="cpu", precision="int8") as engine:
        yield engine


def _built(plan: Path, scene: Scene, *, limit: float) -> bool:
    try:
        report = build_for_processor(plan, scene=scene, max_miou_drop=limit, say=print)
    except BackendError as error:
        print(f"8 bits are passed over: {error}")
        return False
    print("\n".join(report.lines))
    return True
