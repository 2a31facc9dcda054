"""What training makes small, and what it does about rare classes."""

from .rare import class_weights, log_prior
from .task_loss import TaskLoss

__all__ = ["TaskLoss", "class_weights", "log_prior"]
