"""What a user may say of a checkpoint that its keys and shapes cannot tell."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ...engine.errors import CheckpointError
from ...engine.plan.network import ClassEntry, SeriesFilter

__all__ = ["ExportConfig", "ModalityConfig", "TaskConfig"]


_Finite = Annotated[float, Field(allow_inf_nan=False)]
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModalityConfig(_Model):
    """One modality; what is left out is taken from FLAIR-HUB, where the name is known there.

    Attributes:
        bands: names of the bands in the order of the network's channels; of elevation DSM and DTM, from which the
            surface and the height above ground are made.
        dtype: NumPy type of the digital numbers.
        statistics: band name -> [mean, standard deviation]; a band left out keeps FLAIR-HUB's or enters raw.
        gsd_m: pixel size in metres.
        tile_px: side of a training tile in this sensor's pixels; left out, that of the ground that the first
            modality's covers.
        reference_day: for a series, month and day from which days are counted.
        days_seen: for a series, first and last day that training saw.
        filter: for an optical series, which acquisitions are used; `null` takes all.
    """

    bands: tuple[str, ...] | None = None
    dtype: Literal["uint8", "uint16", "int16", "float32"] | None = None
    statistics: dict[str, tuple[_Finite, _Positive]] = {}
    gsd_m: _Positive | None = None
    tile_px: Annotated[int, Field(ge=1)] | None = None
    reference_day: str | None = None
    days_seen: tuple[int, int] | None = None
    filter: SeriesFilter | None = None


class TaskConfig(_Model):
    """What is to be known of one task where it is not FLAIR-HUB's.

    Attributes:
        classes: names and colours, in the order of their values; FLAIR-HUB's where left out.
        product: whose rasters hold its labels in a data set; that of its own name where left out.
        values: value in those rasters -> class; both are the same where left out.
    """

    classes: tuple[ClassEntry, ...] = ()
    product: str | None = None
    values: dict[int, int] | None = None


class ExportConfig(_Model):
    """The file behind `uperfuse export --config`."""

    name: str | None = None
    modalities: dict[str, ModalityConfig] = {}
    tasks: dict[str, TaskConfig] = {}

    @classmethod
    def read(cls, path: Path | None) -> ExportConfig:
        """Read a YAML file; without one, nothing is overridden.

        Raises:
            CheckpointError: the file is not YAML, or a key or value is unknown.
        """
        if path is None:
            return cls()
        try:
            return cls.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
        except OSError as error:
            raise CheckpointError(f"{path} cannot be read: {error.strerror}; give the path of a YAML file") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise CheckpointError(f"{path} is not YAML: {error}") from error
        except ValidationError as error:
            faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            raise CheckpointError(f"{path} does not describe a checkpoint: {faults}") from error
