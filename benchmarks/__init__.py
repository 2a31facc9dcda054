"""What is fast, measured against what a user would take instead; run by `make bench`."""

__all__: list[str] = []
