"""One scene for all tests of this folder: not square, no multiple of a tile, with a void corner."""

import pytest

from uperfuse.engine.simulation import DOMAINS, SimulatedScene, simulate

SHAPE_YX_PX = (1100, 780)


@pytest.fixture(scope="session")
def scene() -> SimulatedScene:
    return simulate(24, shape_yx_px=SHAPE_YX_PX, domain=DOMAINS["gascogne"], void_corner=True)
