"""Configurations by file or by name, with what a command line says."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from ...engine.errors import CheckpointError
from .config import StartConfig, TeacherConfig, TrainConfig

__all__ = ["published_names", "read_config"]

_FOLDER = "configs"


def published_names() -> list[str]:
    """Names of the configurations that come with the project."""
    folder = resources.files(__package__.rpartition(".")[0]) / _FOLDER
    return sorted(file.name.removesuffix(".yaml") for file in folder.iterdir() if file.name.endswith(".yaml"))


def read_config(
    config: str | Path,
    *,
    data: Path | None = None,
    start: Path | None = None,
    teacher: Path | None = None,
    workers: int | None = None,
) -> TrainConfig:
    """Read a configuration.

    Args:
        config: a YAML file, or the name of a configuration that comes with the project.
        data: folder of the data set, in place of the file's.
        start: checkpoint to begin with, in place of the file's.
        teacher: checkpoint to learn from, in place of the file's.
        workers: processes that load, in place of the file's.

    Raises:
        CheckpointError: there is no such file or name, or it does not describe a training.
    """
    if Path(config).suffix in (".yaml", ".yml") or Path(config).exists():
        read = TrainConfig.read(Path(config))
    else:
        names = published_names()
        if str(config) not in names:
            raise CheckpointError(
                f"{config} is neither a YAML file nor one of {', '.join(names)}; give the path of a file or a name"
            )
        file = resources.files(__package__.rpartition(".")[0]) / _FOLDER / f"{config}.yaml"
        read = TrainConfig.parse(file.read_text(encoding="utf-8"), source=str(config), folder=Path())
    here = Path.cwd()
    if data is not None:
        read = read.model_copy(update={"data": read.data.model_copy(update={"root": here / data})})
    if start is not None:
        read = read.model_copy(update={"start": StartConfig(checkpoint=here / start)})
    if teacher is not None:
        kept = read.teacher.model_copy(update={"checkpoint": here / teacher}) if read.teacher else None
        read = read.model_copy(update={"teacher": kept or TeacherConfig(checkpoint=here / teacher)})
    if workers is not None:
        read = read.model_copy(update={"recipe": read.recipe.model_copy(update={"workers": workers})})
    return read
