"""Maps of whole rasters."""

from .predict import map_scene, map_with_engine, predict_raster
from .run import Begin
from .scene import Scene, Source
from .summary import MapSummary
from .work import MapOptions

__all__ = ["Begin", "MapOptions", "MapSummary", "Scene", "Source", "map_scene", "map_with_engine", "predict_raster"]
