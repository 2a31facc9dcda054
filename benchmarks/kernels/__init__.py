"""The kernels against their references, on a GPU: `pytest benchmarks/kernels --benchmark`."""

__all__: list[str] = []
