"""Small cases that a processor runs in milliseconds, for pytest-benchmark: `pytest --benchmark`."""

__all__: list[str] = []
