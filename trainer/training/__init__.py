"""Training: from a configuration and a data set to weights that an export takes."""

from .build import Built, build
from .config import TrainConfig
from .loop import BEST, LAST, STATE, fit
from .machines import Machines
from .named import published_names, read_config
from .objective import Objective, Teacher
from .recipe import Recipe
from .rounds import Round, Validation
from .run import Outcome, train
from .start import adopt, begin

__all__ = [
    "BEST",
    "LAST",
    "STATE",
    "Built",
    "Machines",
    "Objective",
    "Outcome",
    "Recipe",
    "Round",
    "Teacher",
    "TrainConfig",
    "Validation",
    "adopt",
    "begin",
    "build",
    "fit",
    "published_names",
    "read_config",
    "train",
]
