"""Maps of whole rasters."""

from .predict import predict_raster
from .scene import Scene, Source
from .summary import MapSummary

__all__ = ["MapSummary", "Scene", "Source", "predict_raster"]
