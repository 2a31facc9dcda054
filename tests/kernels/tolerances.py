"""The one table of tolerances lies where the benchmarks, which time nothing wrong, find it, too."""

from benchmarks.tolerances import TOLERANCES, assert_near

__all__ = ["TOLERANCES", "assert_near"]
