"""Keeps the tests of `suite/` out of the main run: they need a process of their own, with the simulated driver."""

from __future__ import annotations

from pathlib import Path

import pytest

SUITE = Path(__file__).resolve().parent / "suite"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Collect from `suite/` what was named, file by file or as `suite` itself."""
    if SUITE not in collection_path.parents:
        return None
    named = {Path(argument.split("::")[0]).resolve() for argument in config.args}
    return None if named & {collection_path, SUITE} else True
