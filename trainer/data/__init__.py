"""FLAIR-HUB on disk to batches for training: layout, check, reading, augmentation, and a simulated data set."""

from .absence import draw_absent
from .augment import Augmentation, quarter, turn
from .check import ClassCount, DomainCount, Report, check
from .choose import choose
from .collate import Batch, collate
from .data_set import DataSet
from .draws import Draw, Draws, Shard
from .errors import DataSetError
from .flair1 import import_flair1
from .labels import FLAIRHUB_LABELS, LabelRule
from .layout import PatchId
from .loading import PatchDataset, PreparedDataset, make_loader
from .prepare import Prepared, PreparedSeries, prepare_sample
from .reading import read_sample
from .sample import Sample, Series
from .simulate import simulate_data_set
from .splits import Patch, Split

__all__ = [
    "FLAIRHUB_LABELS",
    "Augmentation",
    "Batch",
    "ClassCount",
    "DataSet",
    "DataSetError",
    "DomainCount",
    "Draw",
    "Draws",
    "LabelRule",
    "Patch",
    "PatchDataset",
    "PatchId",
    "Prepared",
    "PreparedDataset",
    "PreparedSeries",
    "Report",
    "Sample",
    "Series",
    "Shard",
    "Split",
    "check",
    "choose",
    "collate",
    "draw_absent",
    "import_flair1",
    "make_loader",
    "prepare_sample",
    "quarter",
    "read_sample",
    "simulate_data_set",
    "turn",
]
