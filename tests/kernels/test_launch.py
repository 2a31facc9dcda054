"""A launch does what its declaration says, and refuses what the kernel would read or write wrongly."""

import math
from contextlib import contextmanager

import pytest
import torch

from uperfuse.kernels.launch import dtype_name, launch
from uperfuse.kernels.spec import Variant

from .example import SCALE, declare

FP32, BF16 = SCALE.variants
SHAPE = (3, 5, 4)


def _arguments(*, dtype=torch.float32, **changes):
    B, N, C = SHAPE
    torch.manual_seed(0)
    rows = torch.randn(SHAPE).to(dtype)
    said = {"rows": rows, "weights": torch.rand(C), "out": torch.full_like(rows, math.nan), "B": B, "N": N}
    return said | {"factor": 1.5} | changes


@pytest.mark.parametrize("capability", [None, 90])
@pytest.mark.parametrize("variant", SCALE.variants, ids=lambda variant: variant.name)
def test_runs(kernels, variant, capability):
    arguments = _arguments(dtype=torch.bfloat16 if variant is BF16 else torch.float32)
    launch(SCALE, variant=variant, arguments=arguments, capability=capability)
    want = (arguments["rows"].float() * arguments["weights"] * 1.5).to(arguments["rows"].dtype)
    assert torch.equal(arguments["out"], want)


def test_the_architectures_configuration_is_taken(kernels):
    seen = []

    def configure(variant, capability):
        seen.append(capability)
        return SCALE.configure(variant, capability)

    launch(declare(configure=configure), variant=FP32, arguments=_arguments(), capability=90)
    # first of all the declaration looks at its own variants
    assert seen[len(SCALE.variants) :] == [90]


def test_runs_on_the_device_of_the_tensors(kernels, monkeypatch):
    entered = []

    @contextmanager
    def device_of(tensor):
        entered.append(tensor)
        yield

    monkeypatch.setattr(torch.cuda, "device_of", device_of)
    arguments = _arguments()
    launch(SCALE, variant=FP32, arguments=arguments)
    assert entered[0] is arguments["rows"]


def test_nothing_is_launched_for_no_programs(kernels):
    empty = torch.empty(0, 5, 4)
    launch(SCALE, variant=FP32, arguments=_arguments(rows=empty, out=empty, B=0))


def _unaligned(shape):
    """Contiguous, but one element behind an address that 16 divides."""
    return torch.zeros(math.prod(shape) + 1)[1:].view(shape)


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        (
            {"rows": torch.zeros(SHAPE, dtype=torch.bfloat16)},
            TypeError,
            "rows is torch.bfloat16, expected fp32; convert",
        ),
        ({"weights": torch.zeros(4).half()}, TypeError, "weights is torch.float16, expected fp32; convert it"),
        ({"out": torch.zeros(SHAPE, dtype=torch.complex64)}, TypeError, "tensor is torch.complex64, expected one of"),
        ({"rows": [0.0]}, TypeError, "rows is a list, expected a tensor; give one"),
        ({"rows": torch.zeros(3, 6, 4)}, ValueError, r"rows has 72 elements, expected \[3, 5, 4\] .*; give that many"),
        ({"N": 6}, ValueError, r"rows has 60 elements, expected \[3, 6, 4\]"),
        ({"weights": torch.zeros(5)}, ValueError, r"weights has 5 elements, expected \[4\]"),
        ({"rows": torch.zeros(3, 4, 5).mT}, ValueError, r"rows has strides .*, expected contiguous; call .contiguous"),
        ({"weights": torch.zeros(1).expand(4)}, ValueError, r"weights has strides \(0,\), expected contiguous"),
        ({"rows": _unaligned(SHAPE)}, ValueError, "rows starts at an address that 16 does not divide; clone the view"),
        ({"weights": torch.zeros(4, device="meta")}, ValueError, "weights is on meta, expected cpu; move it there"),
    ],
)
def test_refuses(kernels, changes, error, says):
    arguments = _arguments(**changes)
    with pytest.raises(error, match=says) as caught:
        launch(SCALE, variant=FP32, arguments=arguments)
    if not str(caught.value).startswith("tensor is"):
        assert str(caught.value).startswith("scale: ")


def test_refuses_a_dtype_outside_the_declaration(kernels):
    with pytest.raises(TypeError, match=r"scale runs with T = fp16, expected one of \('fp32', 'bf16'\); convert it"):
        launch(SCALE, variant=Variant({"T": "fp16"}, {"C": 4}), arguments=_arguments(dtype=torch.float16))


@pytest.mark.parametrize(
    ("dtype", "name"),
    [
        (torch.float32, "fp32"),
        (torch.bfloat16, "bf16"),
        (torch.uint8, "u8"),
        (torch.int16, "i16"),
        (torch.int64, "i64"),
    ],
)
def test_dtypes_have_tritons_names(dtype, name):
    assert dtype_name(torch.empty(0, dtype=dtype)) == name
