"""The network in PyTorch, its checkpoints, its training with data, losses and scores, and the way to a plan."""

__all__ = [
    "checkpoint",
    "data",
    "description",
    "evaluation",
    "export",
    "losses",
    "network",
    "scores",
    "training",
]
