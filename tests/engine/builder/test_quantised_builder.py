"""Parts of the shipped plan with products in 8 bits in the hands of the real builder.

`test_real_builder` builds these and all others in int8 as well; here is what it does not look at.
"""

from __future__ import annotations

import pytest

from tests.conftest import ROOT
from uperfuse.engine import Plan
from uperfuse.engine.builder import FloatPart, float_parts, write_types

from .eight_bit_parts import check_eight_bits, quantised
from .real_builder import build


@pytest.fixture(scope="module")
def parts() -> dict[str, FloatPart]:
    with Plan.open(ROOT / "models" / "uperfuse-small.plan") as plan:
        return {part.name: part for part in float_parts(plan, cut=True)}


def test_there_is_something_to_quantise_in_every_part(parts):
    counts = {name: len(quantised(part, kind="int8")[1]) for name, part in parts.items()}
    assert min(counts.values()) >= 9
    assert counts["encoder:AERIAL_RGBI"] == 28


def test_fp8_is_for_matrix_products(parts):
    counts = {name: check_eight_bits(part, kind="fp8") for name, part in parts.items() if name.startswith("encoder:")}
    assert counts["encoder:AERIAL_RGBI"] == 20
    assert check_eight_bits(parts["temporal:SENTINEL2_TS"], kind="fp8") == 1
    assert check_eight_bits(parts["decode:ALL_LABEL-LPIS"], kind="fp8") == 0  # convolutions alone


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_the_rest_may_be_of_any_type(parts, precision):
    for name in ("encoder:SPOT_RGBI", "spatial:SENTINEL2_TS"):
        made, names = quantised(parts[name], kind="int8")
        built = build(write_types(made, precision=precision))
        read = {node for layer in built.engine if "int8" in layer.reads for node in layer.nodes}
        assert set(names) <= read


def test_raw_numbers_are_multiplied_as_they_are(parts):
    """Stems of elevation and of series take float32 and read no 8 bits, whatever the rest does."""
    for name in ("encoder:DEM_ELEV", "spatial:SENTINEL2_TS"):
        part = parts[name]
        made, _ = quantised(part, kind="int8")
        stem = next(node.name for node in part.model.graph.node if node.op_type == "Conv")
        assert stem in part.float_nodes
        built = build(write_types(made, precision="fp16"))
        (layer,) = (each for each in built.parsed if each.node == stem and each.kind == "CONVOLUTION")
        assert set(layer.takes) == {"float32"}
        reads = {
            kind for each in built.engine if stem in each.nodes and "correlation" in each.kind for kind in each.reads
        }
        assert "int8" not in reads
