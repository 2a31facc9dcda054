"""From a checkpoint to a plan."""

from ..description import ExportConfig
from .check import compare, reference_logits
from .export import ExportReport, export_checkpoint, export_network

__all__ = ["ExportConfig", "ExportReport", "compare", "export_checkpoint", "export_network", "reference_logits"]
