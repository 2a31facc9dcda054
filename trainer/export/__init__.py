"""From a checkpoint to a plan."""

from .check import compare, reference_logits
from .config import ExportConfig
from .export import ExportReport, export_checkpoint, export_network

__all__ = ["ExportConfig", "ExportReport", "compare", "export_checkpoint", "export_network", "reference_logits"]
