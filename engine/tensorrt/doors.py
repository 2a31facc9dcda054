"""Whether a network or an engine is what the plan says: names, types and shapes of its doors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest

from ..errors import BackendError
from ..plan.payloads import Door, Part
from .api import Enumerator, ICudaEngine, ITensor, Shape, TensorRT
from .flavour import Flavour
from .refusals import BUILD_AGAIN

__all__ = ["check_engine", "compare_network", "dtypes", "output_shapes", "profile_shapes"]


def dtypes(trt: TensorRT) -> dict[str, Enumerator]:
    """TensorRT's types by the names that doors give them."""
    types = trt.DataType
    return {"float32": types.FLOAT, "float16": types.HALF, "bfloat16": types.BF16}


def compare_network(
    part: str, end: str, doors: Sequence[Door], tensors: Sequence[ITensor], *, flavour: Flavour
) -> None:
    """Compare the inputs or outputs of a network with those that its part lists.

    Args:
        part: name of the part.
        end: "takes" or "gives".
        doors: that are listed.
        tensors: that are there, in order.
        flavour: of the network.

    Raises:
        BackendError: they differ.
    """
    names = {int(value): name for name, value in dtypes(flavour.module).items()}
    listed = [
        (door.name, door.dtype, tuple(-1 if isinstance(axis, str) else axis for axis in door.shape)) for door in doors
    ]
    found = [(each.name, names.get(int(each.dtype), str(each.dtype)), tuple(each.shape)) for each in tensors]
    for got, expected in zip_longest(found, listed):
        if got is None or expected is None or not _same_door(got, expected, exact=end == "takes"):
            raise BackendError(f"the graph of {part} {end} {got}, its part lists {expected}; export the plan again")


def _same_door(got: tuple[str, str, Shape], expected: tuple[str, str, Shape], *, exact: bool) -> bool:
    """Whether a tensor is what a door says; the size of an output that TensorRT cannot foretell is -1, too."""
    if got[:2] != expected[:2] or len(got[2]) != len(expected[2]):
        return False
    return all(here == there or (here == -1 and not exact) for here, there in zip(got[2], expected[2], strict=True))


def check_engine(engine: ICudaEngine, part: Part, *, profiles: int, flavour: Flavour) -> None:
    """Compare an engine with the part that it should be.

    Args:
        engine: as it was loaded.
        part: what the plan says.
        profiles: how many it must have.
        flavour: that loaded it.

    Raises:
        BackendError: its name, doors, types, shapes or number of profiles differ.
    """
    trt = flavour.module
    if engine.name != part.name:
        raise BackendError(f"the engine of {part.name} was built of {engine.name or 'something else'}; {BUILD_AGAIN}")
    there = engine.num_optimization_profiles
    if there != profiles:
        raise BackendError(f"the engine of {part.name} has {there} profiles, expected {profiles}; {BUILD_AGAIN}")
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    wanted = {int(value): kind for kind, value in dtypes(trt).items()}
    for end, mode, doors in (
        ("takes", trt.TensorIOMode.INPUT, part.inputs),
        ("gives", trt.TensorIOMode.OUTPUT, part.outputs),
    ):
        found = sorted(name for name in names if int(engine.get_tensor_mode(name)) == int(mode))
        if found != sorted(door.name for door in doors):
            listed = ", ".join(door.name for door in doors)
            raise BackendError(f"the engine of {part.name} {end} {', '.join(found)}, expected {listed}; {BUILD_AGAIN}")
        for door in doors:
            shape = tuple(engine.get_tensor_shape(door.name))
            kind = int(engine.get_tensor_dtype(door.name))
            if wanted.get(kind) != door.dtype or not _fits(shape, door, exact=end == "takes"):
                raise BackendError(
                    f"the engine of {part.name} {end} {door.name} as {wanted.get(kind, 'another type')} of shape "
                    f"{list(shape)}, expected {door.dtype} of shape {list(door.shape)}; {BUILD_AGAIN}"
                )
            _check_place(engine, part, door, flavour=flavour)


def _check_place(engine: ICudaEngine, part: Part, door: Door, *, flavour: Flavour) -> None:
    trt = flavour.module
    linear = not flavour.has("TensorFormat") or all(
        int(engine.get_tensor_format(door.name, profile)) == int(trt.TensorFormat.LINEAR)
        for profile in range(engine.num_optimization_profiles)
    )
    if not linear or int(engine.get_tensor_location(door.name)) != int(trt.TensorLocation.DEVICE):
        raise BackendError(
            f"the engine of {part.name} wants {door.name} in an order of its own or on the host; {BUILD_AGAIN}"
        )


def _fits(shape: Shape, door: Door, *, exact: bool) -> bool:
    """Whether a shape with -1 for what varies is a door's; unless exact, more may vary than the door says."""
    if len(shape) != len(door.shape):
        return False
    return all(
        isinstance(axis, str) or size == axis or (size == -1 and not exact)
        for size, axis in zip(shape, door.shape, strict=True)
    )


def profile_shapes(engine: ICudaEngine, part: Part, profile: int) -> dict[str, Shape]:
    """Shapes of the inputs in a profile.

    Raises:
        BackendError: it has more than one shape of an input, or another one than the door.
    """
    shapes = {}
    for door in part.inputs:
        least, _, most = (tuple(each) for each in engine.get_tensor_profile_shape(door.name, profile))
        if least != most or not _fits(least, door, exact=False):
            raise BackendError(
                f"profile {profile} of {part.name} takes {door.name} from {list(least)} to {list(most)}, expected one "
                f"shape like {list(door.shape)}; {BUILD_AGAIN}"
            )
        shapes[door.name] = least
    return shapes


def _sizes(part: Part, shapes: Mapping[str, Shape]) -> dict[str, int]:
    """Numbers of tiles and dates that all inputs agree on."""
    sizes: dict[str, int] = {}
    for door in part.inputs:
        for size, axis in zip(shapes[door.name], door.shape, strict=True):
            if isinstance(axis, str) and sizes.setdefault(axis, size) != size:
                raise BackendError(f"inputs of {part.name} differ in {axis}: {sizes[axis]} and {size}; {BUILD_AGAIN}")
    return sizes


def output_shapes(part: Part, shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """Shapes of the outputs that follow from those of the inputs.

    Raises:
        BackendError: the inputs differ in numbers of tiles or dates.
    """
    sizes = _sizes(part, shapes)
    return {
        door.name: tuple(sizes[axis] if isinstance(axis, str) else axis for axis in door.shape) for door in part.outputs
    }
