"""A simulated world in FLAIR-HUB's forms: landscapes, and all ten of their rasters, from a seed and NumPy alone."""

from .domain import DOMAINS, Domain
from .satellites import Passes
from .scene import MASK, SimulatedScene, simulate
from .write import write_scene

__all__ = ["DOMAINS", "MASK", "Domain", "Passes", "SimulatedScene", "simulate", "write_scene"]
