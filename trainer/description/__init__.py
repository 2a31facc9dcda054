"""What a network takes and gives: bands, statistics, classes, told by its shapes, FLAIR-HUB and the user."""

from .config import ExportConfig, ModalityConfig, TaskConfig
from .describe import DescribedNetwork, describe_modality, describe_network, describe_task
from .sizes import each_once, label_side, tile_sides, uneven_tiles

__all__ = [
    "DescribedNetwork",
    "ExportConfig",
    "ModalityConfig",
    "TaskConfig",
    "describe_modality",
    "describe_network",
    "describe_task",
    "each_once",
    "label_side",
    "tile_sides",
    "uneven_tiles",
]
