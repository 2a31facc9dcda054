"""The one `Core` of OpenVINO in a process.

The processor plugin of a `Core` gives the thread that loads it an alternate stack for signals, and takes it away when
it is unloaded. Where two of them overlap, the thread may be left with the stack of one that is gone, and the next
Ctrl-C is a segmentation fault instead of a `KeyboardInterrupt` (seen in OpenVINO 2026.4.1: two cores, released in the
order in which they were made). One that is kept has nothing to overlap with, and its plugin need not be loaded again.
"""

from __future__ import annotations

from functools import cache

import openvino as ov

__all__ = ["openvino_core"]


@cache
def openvino_core() -> ov.Core:
    """OpenVINO's `Core`, with its processor plugin loaded; kept until the process ends. Give settings to each graph."""
    core = ov.Core()
    core.get_property("CPU", "FULL_DEVICE_NAME")  # loads the plugin
    return core
