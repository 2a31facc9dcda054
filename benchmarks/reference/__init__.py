"""FLAIR-HUB's own code as the other side: `python -m benchmarks.reference --reference DIR`."""

__all__: list[str] = []
