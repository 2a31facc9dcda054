"""How right maps are: confusion matrices over whole splits, and the scores that follow from them."""

from .confusion import GroupedConfusion
from .scores import ClassScores, Scores, scores_of

__all__ = ["ClassScores", "GroupedConfusion", "Scores", "scores_of"]
