"""The file behind `uperfuse train`: data, network, where its weights begin, losses, and how it is trained."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ...engine.errors import CheckpointError
from ...engine.flairhub import TASKS
from ..data import Augmentation, LabelRule
from ..description import ModalityConfig, TaskConfig
from ..network import BACKBONES, BackboneSpec
from ..network.spec import Decoder
from .objective import SECOND_LOOKS
from .recipe import Recipe

__all__ = [
    "SHARED",
    "DataConfig",
    "EncoderConfig",
    "ImbalanceConfig",
    "NetworkConfig",
    "SeriesConfig",
    "StartConfig",
    "TeacherConfig",
    "TrainConfig",
    "TrainModality",
    "TrainTask",
]

SHARED = "shared"
"""Stands in place of an encoder where an image shares the first one's."""

_Probability = Annotated[float, Field(ge=0, lt=1)]
_Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Widths = Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=2)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class EncoderConfig(_Model):
    """An image encoder by its numbers, where none of timm's is meant; see `BackboneSpec`."""

    family: Literal["swin", "convnextv2"] = "convnextv2"
    dims: tuple[int, ...]
    depths: tuple[int, ...]
    heads: tuple[int, ...] = ()
    windows: tuple[int, ...] = ()

    def spec(self) -> BackboneSpec:
        """The same for the network."""
        return BackboneSpec(self.family, self.dims, self.depths, self.heads, self.windows)


class SeriesConfig(_Model):
    """The encoder of a time series, where it is not the reference's; see `SeriesSpec`."""

    encoder_widths: _Widths
    decoder_widths: _Widths
    heads: Annotated[int, Field(ge=1)] = 16
    d_key: Annotated[int, Field(ge=1)] = 4
    d_model: Annotated[int, Field(ge=1)] = 256
    hidden_widths: tuple[int, ...] = (32,)


class TrainModality(ModalityConfig):
    """One sensor: what an export must know of it, and how it is learnt.

    Attributes:
        encoder: of an image, timm's name or numbers; that of the network where left out. `shared`: the first image's,
            but for a stem of its own, since it has other bands; a ConvNeXt V2 alone can be shared.
        series: of a time series; the reference's where left out.
        dropout: probability with which the second look at a patch does without this sensor, while the network learns
            what takes its place; left out, the network cannot do without it. See `TrainConfig.second_looks`.
        aux: weight of the loss of a decoder of its own; 0 has none.
    """

    encoder: str | EncoderConfig | None = None
    series: SeriesConfig | None = None
    dropout: _Probability | None = None
    aux: _Weight = 0.0

    def said(self) -> ModalityConfig:
        """What an export must know."""
        fields = self.model_fields_set & ModalityConfig.model_fields.keys()
        return ModalityConfig.model_validate({name: getattr(self, name) for name in fields})


class ImbalanceConfig(_Model):
    """What is done for rare classes; nothing where all is left out.

    Attributes:
        weights: power by which classes weigh more the rarer they are: 0 not at all, 1 alike for every class.
        logit_adjustment: strength of the classes' frequencies in the logits of training (Menon et al. 2021).
        lovasz: weight of a Lovasz-softmax term (Berman et al. 2018).
        sampling: power by which patches with rare classes are drawn more often.
    """

    weights: _Weight = 0.0
    logit_adjustment: _Weight = 0.0
    lovasz: _Weight = 0.0
    sampling: _Weight = 0.0

    @model_validator(mode="after")
    def _once(self) -> ImbalanceConfig:
        if self.weights and self.logit_adjustment:
            raise ValueError("weights and logit_adjustment both answer frequencies; choose one of them")
        return self


class TrainTask(TaskConfig):
    """One map: its classes where they are the user's own, and how it is learnt.

    Attributes:
        weight: of its loss.
        imbalance: what is done for rare classes.
    """

    weight: _Weight = 1.0
    imbalance: ImbalanceConfig = ImbalanceConfig()

    def said(self) -> TaskConfig | None:
        """What an export must know; None where FLAIR-HUB says it."""
        fields = self.model_fields_set & TaskConfig.model_fields.keys()
        return TaskConfig.model_validate({name: getattr(self, name) for name in fields}) if fields else None


class NetworkConfig(_Model):
    """Parts of the network that are not a sensor's.

    Attributes:
        encoder: of every image, timm's name or numbers.
        decoder: kind of the decoders.
        pyramid_channels: of UPerNet's maps.
        segmentation_channels: of UPerNet's last map.
        unet_channels: of U-Net's five blocks.
    """

    encoder: str | EncoderConfig = "swin_base_patch4_window12_384"
    decoder: Decoder = "upernet"
    pyramid_channels: Annotated[int, Field(ge=1)] = 256
    segmentation_channels: Annotated[int, Field(ge=1)] = 64
    unet_channels: tuple[int, ...] = (256, 128, 64, 32, 16)


class StartConfig(_Model):
    """Where the weights begin; at random where all is left out.

    Attributes:
        checkpoint: a published FLAIR-HUB file or one of ours. Its network is taken over where `network` and the
            modalities say nothing else; modalities may be added to it or left out, and tasks may have other classes.
        pretrained: whether image encoders begin with timm's weights from its hub; or encoder -> file with them.
    """

    checkpoint: Path | None = None
    pretrained: bool | dict[str, Path] = False

    @model_validator(mode="after")
    def _one(self) -> StartConfig:
        if self.checkpoint is not None and self.pretrained:
            raise ValueError("weights begin with a checkpoint or with timm's; choose one of them")
        return self


class DataConfig(_Model):
    """What is learnt from.

    Attributes:
        root: folder in FLAIR-HUB's layout.
        splits: "train", "valid" or "test" -> split file; those that lie in the root where left out.
        hold_out: places whose patches are left out of training and choose the best weights: a part of the training
            split's domains, or their names. 0 chooses by the validation split, whose patches in FLAIR-HUB lie among
            those of training.
        odds: domain -> how much likelier its patches are drawn than those of others.
        check: whether all files are read before training, and broken ones refused.
        augmentation: random changes; `null` for none.
    """

    root: Path | None = None
    splits: dict[Literal["train", "valid", "test"], Path] | None = None
    hold_out: _Probability | tuple[str, ...] = 0.15
    odds: dict[str, Annotated[float, Field(gt=0)]] = {}
    check: bool = True
    augmentation: Augmentation | None = Augmentation()


class TeacherConfig(_Model):
    """A network to learn from beside the labels.

    Attributes:
        checkpoint: its weights.
        weight: of its loss beside that of the labels.
        temperature: by which logits of both are divided.
        config: what its keys and shapes cannot tell, as for an export; left out, the file says it.
    """

    checkpoint: Path
    weight: _Weight = 1.0
    temperature: Annotated[float, Field(gt=0)] = 2.0
    config: Path | None = None


class TrainConfig(_Model):
    """Everything that decides what a training gives.

    Attributes:
        name: of the network.
        modalities: sensor -> how it is taken and learnt; all that the network has, FLAIR-HUB's order or not. Left out
            with a checkpoint to start from: its own.
        tasks: map -> its classes and loss. Left out with a checkpoint to start from: its own.
        network: other parts of the network.
        start: where its weights begin.
        teacher: network to learn from.
        second_looks: weight of the loss of second looks, which do without what `dropout` leaves out, beside that of
            first ones, which have all; 0 takes none.
        data: what is learnt from.
        recipe: how.
    """

    name: str
    modalities: dict[str, TrainModality] = {}
    tasks: dict[str, TrainTask] = {}
    network: NetworkConfig | None = None
    start: StartConfig = StartConfig()
    teacher: TeacherConfig | None = None
    second_looks: _Weight = SECOND_LOOKS
    data: DataConfig = DataConfig()
    recipe: Recipe

    @model_validator(mode="after")
    def _complete(self) -> TrainConfig:
        if self.start.checkpoint is None and not (self.modalities and self.tasks):
            raise ValueError("name modalities and tasks, or a checkpoint to start from that has them")
        return self

    @classmethod
    def read(cls, path: Path) -> TrainConfig:
        """Read a YAML file; paths in it are relative to its folder.

        Raises:
            CheckpointError: no such file, not YAML, or a key or value that does not fit; every fault is named.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise CheckpointError(f"{path} cannot be read: {error.strerror}; give the path of a YAML file") from error
        except UnicodeDecodeError as error:
            raise CheckpointError(f"{path} is not text: {error}; give a YAML file") from error
        return cls.parse(text, source=str(path), folder=path.parent)

    @classmethod
    def parse(cls, text: str, *, source: str, folder: Path) -> TrainConfig:
        """Read YAML.

        Args:
            text: the YAML.
            source: what to call it in errors.
            folder: to which its paths are relative.

        Raises:
            CheckpointError: as `read`.
        """
        try:
            return cls.model_validate(yaml.safe_load(text) or {}).placed(folder)
        except yaml.YAMLError as error:
            raise CheckpointError(f"{source} is not YAML: {error}") from error
        except ValidationError as error:
            faults = "; ".join(_faults(error))
            raise CheckpointError(f"{source} does not describe a training: {faults}; correct them") from error

    def placed(self, folder: Path) -> TrainConfig:
        """The same with its paths absolute, those that are not being below a folder."""

        def absolute(path: Path | None) -> Path | None:
            return None if path is None else (folder / path).resolve()

        splits = self.data.splits and {name: (folder / path).resolve() for name, path in self.data.splits.items()}
        pretrained = self.start.pretrained
        if isinstance(pretrained, dict):
            pretrained = {name: (folder / path).resolve() for name, path in pretrained.items()}
        start = {"checkpoint": absolute(self.start.checkpoint), "pretrained": pretrained}
        teacher = self.teacher and self.teacher.model_copy(
            update={"checkpoint": absolute(self.teacher.checkpoint), "config": absolute(self.teacher.config)}
        )
        data = self.data.model_copy(update={"root": absolute(self.data.root), "splits": splits})
        return self.model_copy(update={"data": data, "start": self.start.model_copy(update=start), "teacher": teacher})


def label_rule(name: str, said: TaskConfig | None) -> LabelRule:
    """Labels of a task.

    Args:
        name: of the task.
        said: what the user says of its classes; None where FLAIR-HUB says it.

    Raises:
        CheckpointError: nobody says what its classes are.
    """
    if said is not None and said.classes:
        names = tuple(entry.name for entry in said.classes)
    else:
        names = tuple(entry.name for entry in TASKS.get(name, ()))
    if not names:
        raise CheckpointError(
            f"nothing says what the classes of {name} are; name them under tasks: {name}: classes, or choose one of "
            f"{', '.join(TASKS)}"
        )
    return LabelRule((said and said.product) or name, names, said.values if said else None)


def encoder_of(encoder: str | EncoderConfig) -> BackboneSpec:
    """An image encoder, windows not yet fitted to a tile.

    Raises:
        CheckpointError: timm's name of another one than this project knows.
    """
    if isinstance(encoder, EncoderConfig):
        return encoder.spec()
    if encoder not in BACKBONES:
        raise CheckpointError(f"encoder {encoder} is unknown; use one of {list(BACKBONES)} or give its numbers")
    return BACKBONES[encoder]


def _faults(error: ValidationError) -> Iterator[str]:
    for fault in error.errors():
        where = ".".join(map(str, fault["loc"]))
        yield f"{where}: {fault['msg']}" if where else fault["msg"]
