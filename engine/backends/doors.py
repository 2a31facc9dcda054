"""The doors of a plan's segments: what goes in and comes out must fit the modalities, the tasks and each other.

A plan may be hashed rightly and still be wrong: segments swapped, sizes mistaken. What is refused here would otherwise
end in an error in the middle of a map, or in a map of nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import PlanError
from ..plan.manifest import Manifest
from ..plan.network import Modality, Segment, TensorSpec

__all__ = ["check_doors", "shape_of"]

_Shape = tuple[int | str, ...]
_Doors = list[tuple[str, _Shape]]


def check_doors(manifest: Manifest) -> None:
    """Compare the doors that the manifest lists with its modalities and tasks, and with each other.

    Raises:
        PlanError: names the segment, what it says and what was expected.
    """
    base = manifest.segment(f"encoder:{manifest.base}")
    levels = [f"level{place}" for place in range(len(base.outputs))]
    channels = [shape[1] if len(shape) > 1 else 0 for _, shape in _doors(base.outputs)]
    for modality in manifest.modalities:
        encoder = manifest.segment(f"encoder:{modality.name}")
        _expect(encoder, "takes", encoder.inputs, _taken(modality))
        # the sizes of the maps are the encoder's own; one beyond the others' channels cannot be added to them
        sizes = [shape[2:] for _, shape in _doors(encoder.outputs)]
        fit = [
            (level, ("B", count, *_sides(size))) for level, count, size in zip(levels, channels, sizes, strict=False)
        ]
        _expect(encoder, "gives", encoder.outputs, fit)
        if modality.may_be_absent:
            absent = manifest.segment(f"absent:{modality.name}")
            _expect(absent, "takes", absent.inputs, [])
            _expect(
                absent,
                "gives",
                absent.outputs,
                [(level, (1, c, 1, 1)) for level, c in zip(levels, channels, strict=True)],
            )
    for task in manifest.tasks:
        decoder = manifest.segment(f"decode:{task.name}")
        side = manifest.logits_px
        _expect(decoder, "takes", decoder.inputs, _doors(base.outputs))
        _expect(decoder, "gives", decoder.outputs, [("logits", ("B", len(task.classes), side, side))])


def shape_of(spec: TensorSpec, *, dates: int | None = None) -> tuple[int, ...]:
    """Shape of a door for one tile and, in a series, `dates` acquisitions."""
    sizes = {"B": 1, "T": dates or 1}
    return tuple(sizes[axis] if isinstance(axis, str) else axis for axis in spec.shape)


def _taken(modality: Modality) -> _Doors:
    pixels: _Shape = (len(modality.channels), modality.tile_px, modality.tile_px)
    if modality.kind == "image":
        return [("pixels", ("B", *pixels))]
    return [("pixels", ("B", "T", *pixels)), ("days", ("B", "T")), ("mask", ("B", "T"))]


def _sides(shape: _Shape) -> _Shape:
    """Rows and columns that a map may have: two numbers from 1."""
    if len(shape) == 2 and all(isinstance(side, int) and side >= 1 for side in shape):
        return shape
    return ("Y", "X")


def _doors(specs: Sequence[TensorSpec]) -> _Doors:
    return [(spec.name, spec.shape) for spec in specs]


def _expect(segment: Segment, verb: str, got: Sequence[TensorSpec], expected: _Doors) -> None:
    if _doors(got) != expected:
        raise PlanError(
            f"segment {segment.name} {verb} {_words(_doors(got))}, expected {_words(expected)}; export the plan again"
        )


def _words(doors: _Doors) -> str:
    listed = ", ".join(f"{name} [{', '.join(map(str, shape))}]" for name, shape in doors)
    return listed or "nothing"
