"""The network in PyTorch, its checkpoints, its training, and the way from a checkpoint to a plan."""

__all__ = ["checkpoint", "export", "fit", "network"]
