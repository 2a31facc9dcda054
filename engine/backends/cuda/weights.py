"""Parameters of kernels that stay on the GPU: attention, and the channels that images are made of."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .built_network import BuiltNetwork
from .layout import Layout
from .memory import to_short

__all__ = ["weight_arrays", "weights_layout"]

_TYPES = {"embed": "short", "band": "i32", "minus": "i32", "seed": "i64"}


def weights_layout(network: BuiltNetwork) -> Layout:
    """Where parameters lie, by `<MODALITY>.<argument>`; and `seed`, which the attention takes for training alone."""
    layout = Layout()
    for name, values in weight_arrays(network).items():
        dtype = _TYPES.get(name.rpartition(".")[2], "fp32")
        layout.add(name, values.shape, network.short if dtype == "short" else dtype)
    return layout


def weight_arrays(network: BuiltNetwork) -> dict[str, NDArray[Any]]:
    """The parameters themselves, in the types that the kernels take."""
    arrays: dict[str, NDArray[Any]] = {"seed": np.zeros(1, np.int64)}
    for series, weights in network.attention.items():
        for argument, array in weights.arrays.items():
            short = _TYPES.get(argument) == "short"
            arrays[f"{series}.{argument}"] = to_short(array, network.short) if short else array
    for modality in network.manifest.modalities:
        if modality.kind != "image":
            continue
        place = {band: index for index, band in enumerate(modality.bands)}
        tables = {
            "band": [place[channel.band] for channel in modality.channels],
            "minus": [-1 if channel.minus is None else place[channel.minus] for channel in modality.channels],
            "mean": [channel.mean for channel in modality.channels],
            "std": [channel.std for channel in modality.channels],
        }
        for table, values in tables.items():
            dtype = np.int32 if table in _TYPES else np.float32
            arrays[f"{modality.name}.{table}"] = np.array(values, dtype)
    return arrays
