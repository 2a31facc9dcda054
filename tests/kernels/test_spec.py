"""Declarations: what they derive, and that they must agree with their function."""

from dataclasses import FrozenInstanceError

import pytest

from uperfuse.kernels.catalogue import kernel_specs
from uperfuse.kernels.spec import Configuration, Pointer, Scalar, Variant

from .example import SCALE, configure, declare

FP32, BF16 = SCALE.variants


def test_arguments_by_kind():
    assert [each.name for each in SCALE.pointers] == ["rows", "weights", "out"]
    assert [each.name for each in SCALE.scalars] == ["B", "N", "factor"]


def test_a_variants_types_are_resolved():
    assert [SCALE.dtype(each, BF16) for each in SCALE.arguments] == ["bf16", "fp32", "bf16", "i32", "i32", "fp32"]


def test_constants_are_the_variants_and_the_architectures():
    assert SCALE.constants(FP32, 87) == {"C": 4, "P": 8}
    assert SCALE.constants(FP32, 90) == {"C": 4, "P": 16}


@pytest.mark.parametrize(
    ("types", "constants", "name"),
    [
        ({"T": "bf16"}, {"C": 128, "ALIGNED": 1}, "bf16_C128_ALIGNED1"),
        ({"FROM": "u8", "TO": "fp16"}, {}, "u8_fp16"),
        # 1 and 28 are not 12 and 8
        ({"T": "fp32"}, {"C1": 28}, "fp32_C1-28"),
        ({"T": "fp32"}, {"C12": 8}, "fp32_C12-8"),
    ],
)
def test_variants_have_names(types, constants, name):
    assert Variant(types, constants).name == name


def test_declarations_do_not_change():
    with pytest.raises(FrozenInstanceError):
        SCALE.name = "other"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"arguments": SCALE.arguments[1:]}, "does not begin with"),
        ({"arguments": (*SCALE.arguments[1:], SCALE.arguments[0])}, "does not begin with"),
        ({"arguments": (*SCALE.arguments, Scalar("more"))}, "does not begin with"),
        ({"variants": (Variant({"T": "fp32"}),)}, "constants {'P'}"),
        ({"variants": (Variant({"T": "fp32"}, {"C": 4, "H": 2}),)}, "constants {"),
        ({"configure": lambda variant, capability: Configuration({})}, "constants {'C'}"),
        ({"grid": ("cdiv(M, P)",)}, r"expressions use \['M'\]"),
        ({"arguments": (Pointer("rows", "T", ("B", "Y", "C")), *SCALE.arguments[1:])}, r"expressions use \['Y'\]"),
    ],
)
def test_a_declaration_that_disagrees_with_its_function_is_an_error(changes, says):
    with pytest.raises(AssertionError, match=says):
        declare(**changes)


def test_configurations_follow_the_architecture():
    assert configure(FP32, 87) != configure(FP32, 90)


# The declarations of the project

SPECS = kernel_specs()


def test_every_kernel_of_the_project_is_found():
    found = [spec.name for spec in SPECS]
    assert found == sorted(found)
    assert len(found) == len(set(found))
    operations = {spec.function.fn.__module__.split(".")[-2] for spec in SPECS}
    assert operations >= {"temporal_aggregate", "temporal_attention", "pyramid_fusion"}
    assert operations >= {"window_attention", "classify", "prepare"}
    for spec in SPECS:
        assert spec.name.startswith(spec.function.fn.__module__.split(".")[-2])


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_variants_differ_and_are_admitted(spec):
    assert spec.variants
    assert len({variant.name for variant in spec.variants}) == len(spec.variants)
    for variant in spec.variants:
        assert variant.types.keys() == spec.admits.keys()
        for name, dtype in variant.types.items():
            assert dtype in spec.admits[name]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_run_time_integers_are_not_specialised(spec):
    """Else another number of dates or another tile would compile another kernel, which no launch record describes."""
    free = set(spec.function.kwargs.get("do_not_specialize", ()))
    assert free >= {each.name for each in spec.scalars if each.dtype == "i32"}
