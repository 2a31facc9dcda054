"""A run over a scene, kept so that it can go on after whatever stopped it."""

from .journal import Journal, Outcome, State
from .run import Begin, Run
from .settings import FileState, differences, files_of, settings_of

__all__ = ["Begin", "FileState", "Journal", "Outcome", "Run", "State", "differences", "files_of", "settings_of"]
