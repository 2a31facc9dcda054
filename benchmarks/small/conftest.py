"""What the small cases share, and the one line that says why nothing is timed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from uperfuse.engine import Engine
from uperfuse.engine.check import check_tiles_of

_HERE = Path(__file__).parent
_DATES = 13

SMALL_PLAN = _HERE.parents[1] / "models" / "uperfuse-small.plan"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Times are taken only where they were asked for."""
    if config.getoption("--benchmark"):
        return
    reason = "small cases are timed with --benchmark only"
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def small_plan() -> Path:
    """The plan that ships with the project."""
    return SMALL_PLAN


@pytest.fixture(scope="session")
def engine(small_plan: Path) -> Iterator[Engine]:
    """The small plan on the processor, in the precision that a user gets."""
    with Engine.load(small_plan, device="cpu") as loaded:
        yield loaded


@pytest.fixture(scope="session")
def tiles(engine: Engine) -> dict[str, Any]:
    """One tile of every modality, raw."""
    return check_tiles_of(engine.manifest, seed=0, dates=_DATES)
