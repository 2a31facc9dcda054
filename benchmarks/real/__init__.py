"""Two studies on real rasters: what a network learns from little, next to a random forest that gets the same."""

__all__: list[str] = []
