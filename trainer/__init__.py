"""The network in PyTorch, its checkpoints, data for its training, the training, and the way from a checkpoint to a plan."""

__all__ = ["checkpoint", "data", "export", "fit", "network"]
