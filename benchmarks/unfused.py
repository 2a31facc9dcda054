"""Counts what plain PyTorch reads, writes and computes, one operation after the other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from .peaks import Load

__all__ = ["Counted", "Operation", "measure_unfused"]

_KERNELS = "uperfuse"
"""Namespace of our own operations."""

_NOTHING = {"_unsafe_view", "detach_", "empty", "empty_like", "lift_fresh", "new_empty"}
"""Operations that neither move nor compute, though PyTorch does not call them views."""

_MOVES = {
    *("_to_copy", "arange", "cat", "clone", "constant_pad_nd", "copy", "copy_", "eye", "fill_", "full", "gather"),
    *("index", "index_select", "new_full", "new_zeros", "ones", "reflection_pad2d", "replication_pad2d", "roll"),
    *("scalar_tensor", "stack", "zeros", "zeros_like"),
}
"""Operations that copy or fill, and compute nothing."""


_PADS = {"constant_pad_nd", "reflection_pad2d", "replication_pad2d"}
"""Operations that a convolution does by itself, if it is asked to."""


@dataclass(frozen=True)
class Operation:
    """One operation as PyTorch launches it.

    Attributes:
        name: without its namespace, `addmm`.
        moved: bytes of its arrays, each read or written once.
        product: it is a matrix product or a convolution, or one of our kernels.
        compulsory: the same of a convolution that pads its operand itself.
        matrix_flop: operations of matrix units: two per multiply-add of a product.
        vector_flop: operations of the other units: one per element of the largest array. Operations that compute more
            per element (softmax, normalisation) are undercounted.
    """

    name: str
    moved: int
    product: bool
    compulsory: int
    matrix_flop: int
    vector_flop: int


class Counted(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch says no types
    """The operations inside of the `with`; views are none."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch says no types
        self.operations: list[Operation] = []
        self._padded: dict[int, tuple[Tensor, Tensor]] = {}

    @property
    def moved(self) -> int:
        """Bytes that all operations read and write."""
        return sum(each.moved for each in self.operations)

    @property
    def load(self) -> Load:
        """All operations, one launch each."""
        return Load(
            launches=len(self.operations),
            moved=self.moved,
            matrix_flop=sum(each.matrix_flop for each in self.operations),
            vector_flop=sum(each.vector_flop for each in self.operations),
        )

    @property
    def load_of_products(self) -> Load:
        """The same, were everything between products and kernels done in passing; what kernels compute is left out."""
        products = [each for each in self.operations if each.product]
        moved = sum(each.compulsory for each in products)
        return replace(self.load, launches=len(products), moved=moved)

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation and note it."""
        out = function(*args, **(kwargs or {}))
        namespace, _, name = function._schema.name.partition("::")
        if function.is_view or name in _NOTHING:
            return out
        # a tensor that is read through two arguments is read once; a broadcast one as long as it is in memory
        tensors = {id(each): each for each in tree_leaves((args, kwargs, out)) if isinstance(each, Tensor)}
        if name in _PADS:
            self._padded[id(out)] = out, args[0]
        unpadded = [self._padded.get(id(each), (each, each))[1] for each in tensors.values()]
        product = function._overloadpacket in flop_registry
        matrix_flop = flop_registry[function._overloadpacket](*args, **(kwargs or {}), out_val=out) if product else 0
        kernel = namespace == _KERNELS
        computes = not product and not kernel and name not in _MOVES
        self.operations.append(
            Operation(
                name=name,
                moved=sum(map(_dense_bytes, tensors.values())),
                product=product or kernel,
                compulsory=sum(map(_dense_bytes, unpadded)),
                matrix_flop=int(matrix_flop),
                vector_flop=max((each.numel() for each in tensors.values()), default=0) if computes else 0,
            )
        )
        return out


def _dense_bytes(tensor: Tensor) -> int:
    """Bytes of the distinct elements of a tensor."""
    elements = 1
    for extent, stride in zip(tensor.shape, tensor.stride(), strict=True):
        elements *= extent if stride else 1
    return elements * tensor.element_size()


@contextmanager
def measure_unfused() -> Iterator[Counted]:
    """Count the operations of plain PyTorch inside the `with`; read `.moved` and the rest after it."""
    with Counted() as counted:
        yield counted
