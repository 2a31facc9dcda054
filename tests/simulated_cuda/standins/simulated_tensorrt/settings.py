"""What the simulation pretends to be, and what it leaves to the simulated driver."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field

__all__ = ["SETTINGS", "allocate", "device_capability", "free"]

_MAJOR, _MINOR = 75, 76
_OUT_OF_MEMORY = 2


@dataclass
class Settings:
    """Versions by package, and the GPU's compute capability where it is not the driver's."""

    versions: dict[str, str] = field(
        default_factory=lambda: {
            "tensorrt": "10.3.0",
            "tensorrt_lean": "10.3.0",
            "tensorrt_dispatch": "10.3.0",
            "tensorrt_rtx": "1.7.1.116",
        }
    )
    capability: int | None = None


SETTINGS = Settings()


def device_capability() -> int | None:
    """Compute capability of the GPU of the current context; None where there is no driver."""
    if SETTINGS.capability is not None:
        return SETTINGS.capability
    driver = _driver()
    if driver is None:
        return None
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    if driver.cuCtxGetDevice(ctypes.byref(device)):
        return None
    driver.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, device)
    driver.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, device)
    return 10 * major.value + minor.value


def allocate(nbytes: int) -> int | None:
    """Device memory for weights, in the current context; 0 without a driver.

    Returns:
        Its address; None where there is not enough.

    Raises:
        RuntimeError: the driver refuses for another reason.
    """
    driver = _driver()
    if driver is None:
        return 0
    address = ctypes.c_uint64()
    code = driver.cuMemAlloc_v2(ctypes.byref(address), ctypes.c_size_t(nbytes))
    if code == _OUT_OF_MEMORY:
        return None
    if code:
        raise RuntimeError(f"cuMemAlloc gave {code}")
    return address.value


def free(address: int) -> None:
    """Give device memory back; it needs a current context, as TensorRT does."""
    driver = _driver()
    if driver is not None and address:
        driver.cuMemFree_v2(ctypes.c_uint64(address))


def _driver() -> ctypes.CDLL | None:
    """The simulated driver, where it is what the loader finds under the driver's name."""
    try:
        return ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
