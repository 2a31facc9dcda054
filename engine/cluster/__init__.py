"""One scene mapped by many processes, on one machine or on many, through Dask."""

from .connect import open_cluster
from .predict import predict_on_cluster

__all__ = ["open_cluster", "predict_on_cluster"]
