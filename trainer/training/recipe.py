"""How a network is trained: the numbers of the optimiser, and what a run of it costs."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["Precision", "Recipe"]

Precision = Literal["float32", "bf16"]

_Share = Annotated[float, Field(ge=0, lt=1)]


class Recipe(BaseModel):
    """Numbers of the optimiser.

    What is left out is the reference's, but for the average of the weights and the limit of their gradient, of which it
    has neither.

    Attributes:
        epochs: passes over the training patches; `steps` takes its place.
        steps: updates of the weights.
        round_steps: updates between two validations; those of an epoch where left out.
        batch: patches of one update, over all processes and portions.
        portions: into which each process cuts its part of a batch, one after the other, for want of memory.
        learning_rate: peak of the cycle.
        weight_decay: of AdamW.
        warm_up: part of all steps in which the learning rate rises.
        clip: largest norm of the gradient; 0 leaves it as it is.
        average: how much of the averaged weights each update keeps; the average is what is validated and saved. 0
            takes the weights as they are.
        precision: of products; sums, norms and weights stay in float32.
        label_stride: every how manieth pixel, along both axes, is learnt from.
        patience: rounds without improvement after which training ends; None trains to the end.
        workers: processes that load, of each process that trains.
        seed: of weights, order and augmentation.
        deterministic: refuse operations of a GPU whose results change from run to run.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: Annotated[float | None, Field(gt=0)] = None
    steps: Annotated[int | None, Field(ge=1)] = None
    round_steps: Annotated[int | None, Field(ge=1)] = None
    batch: Annotated[int, Field(ge=1)] = 5
    portions: Annotated[int, Field(ge=1)] = 1
    learning_rate: Annotated[float, Field(gt=0)] = 5e-5
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    warm_up: Annotated[float, Field(gt=0, lt=1)] = 0.2
    clip: Annotated[float, Field(ge=0)] = 1.0
    average: _Share = 0.999
    precision: Precision = "float32"
    label_stride: Annotated[int, Field(ge=1)] = 1
    patience: Annotated[int | None, Field(ge=1)] = None
    workers: Annotated[int, Field(ge=0)] = 0
    seed: Annotated[int, Field(ge=0)] = 2025
    deterministic: bool = True

    @model_validator(mode="after")
    def _one_length(self) -> Recipe:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("say how long to train: either epochs or steps")
        return self

    def rounds(self, patches: int) -> tuple[int, int]:
        """Number of rounds and steps in each; all rounds are equal, so that a few steps more than asked may be taken.

        Args:
            patches: in the training split.
        """
        epoch = max(1, round(patches / self.batch))
        steps = self.steps if self.steps is not None else math.ceil((self.epochs or 0) * epoch)
        rounds = max(1, round(steps / (self.round_steps or epoch)))
        return rounds, math.ceil(steps / rounds)
