"""Maps of whole rasters."""

from .predict import predict_raster
from .run import Begin
from .scene import Scene, Source
from .summary import MapSummary

__all__ = ["Begin", "MapSummary", "Scene", "Source", "predict_raster"]
