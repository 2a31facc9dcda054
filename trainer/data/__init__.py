"""FLAIR-HUB on disk to batches for training: layout, check, reading, augmentation, and a simulated data set."""

from .augment import Augmentation, quarter, turn
from .check import ClassCount, DomainCount, Report, check
from .choose import choose
from .collate import Batch, collate
from .data_set import DataSet
from .errors import DataSetError
from .layout import PatchId
from .loading import PatchDataset, make_loader
from .prepare import Prepared, PreparedSeries, prepare_sample
from .reading import read_sample
from .sample import Sample, Series
from .simulate import simulate_data_set
from .splits import Patch, Split

__all__ = [
    "Augmentation",
    "Batch",
    "ClassCount",
    "DataSet",
    "DataSetError",
    "DomainCount",
    "Patch",
    "PatchDataset",
    "PatchId",
    "Prepared",
    "PreparedSeries",
    "Report",
    "Sample",
    "Series",
    "Split",
    "check",
    "choose",
    "collate",
    "make_loader",
    "prepare_sample",
    "quarter",
    "read_sample",
    "simulate_data_set",
    "turn",
]
