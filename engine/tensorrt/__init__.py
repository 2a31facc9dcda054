"""TensorRT in its flavours: what is installed, engines compiled from graphs, engines run."""

from .compiler import CompiledPart, Compiler, Graph
from .context import ALIGNMENT, Context
from .flavour import Flavour, find_flavour
from .profiles import Profile, door_shape, profiles_of
from .runtime import LoadedPart, Runtime
from .timing_cache import Timings, keep_timings, read_timings
from .workspace import workspace

__all__ = [
    "ALIGNMENT",
    "CompiledPart",
    "Compiler",
    "Context",
    "Flavour",
    "Graph",
    "LoadedPart",
    "Profile",
    "Runtime",
    "Timings",
    "door_shape",
    "find_flavour",
    "keep_timings",
    "profiles_of",
    "read_timings",
    "workspace",
]
