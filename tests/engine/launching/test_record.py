"""Launch records: what is written is read back, and what does not belong together is refused."""

import json
from copy import deepcopy

import pytest
from pydantic import ValidationError

from uperfuse.engine.launching.record import File, LaunchRecord

EXAMPLE = {
    "version": 1,
    "kernel": "scale",
    "variant": "bf16_C128",
    "types": {"T": "bf16"},
    "constants": {"C": 128},
    "configuration": {"P": 8},
    "capability": 90,
    "target": "sm_90a",
    "symbol": "_scale",
    "parameters": [
        {"name": "rows", "kind": "pointer", "dtype": "bf16", "offset": 0, "size": 8, "dims": ["B", "N", "C"]},
        {"name": "N", "kind": "scalar", "dtype": "i32", "offset": 8, "size": 4},
        {"name": "B", "kind": "scalar", "dtype": "i32", "offset": 12, "size": 4},
        {"name": "factor", "kind": "scalar", "dtype": "fp32", "offset": 16, "size": 4},
        {"name": "global_scratch", "kind": "null", "offset": 24, "size": 8},
    ],
    "parameter_bytes": 32,
    "grid": ["cdiv(N, P)", "B", "1"],
    "block": [64, 1, 1],
    "shared_bytes": 2048,
    "triton": "3.8.0",
    "ptxas": "12.9",
    "cubin": {"size": 3, "sha256": "0" * 64},
    "ptx": {"size": 3, "sha256": "f" * 64},
}


def test_what_is_written_is_read_back():
    record = LaunchRecord.model_validate_json(json.dumps(EXAMPLE))
    assert record.grid == ("cdiv(N, P)", "B", "1")
    assert LaunchRecord.model_validate_json(record.to_json()) == record
    assert record.to_json().endswith("}\n")


def test_files_are_described_by_their_content():
    assert File.of(b"abc").sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert File.of(b"abc").size == 3


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("version", 2, "Input should be 1"),
        ("author", "somebody", "Extra inputs are not permitted"),
        ("parameters/0/stride", 4, "Extra inputs are not permitted"),
        ("kernel", "../scale", "should match pattern"),
        ("variant", "bf16/C128", "should match pattern"),
        ("types/T", "fp64", "should match pattern"),
        ("constants/C", "128", "should be a valid integer"),
        ("capability", 87, "target is sm_90a, expected one of compute capability 87"),
        ("capability", 90.0, "should be a valid integer"),
        ("target", "sm_90b", "should match pattern"),
        ("symbol", "_scale; exit", "should match pattern"),
        ("parameters/1/offset", 10, "parameter N is at 10, expected 8"),
        ("parameters/4/offset", 20, "parameter global_scratch is at 20, expected 24"),
        ("parameters/1/size", 8, "parameter B is at 12, expected 16"),
        ("parameters/1/kind", "texture", "Input should be 'pointer', 'scalar' or 'null'"),
        ("parameters/0/dims", ["B", "M"], r"'M' uses \['M'\], expected scalars and constants of the record"),
        ("parameter_bytes", 40, "parameters take 32 bytes, the record says 40"),
        ("grid", ["N", "B"], "Field required"),
        ("grid", ["N", "B", "rows"], r"'rows' uses \['rows'\]"),
        ("grid", ["N", "B", "import os"], "'import os' is no expression"),
        ("block", [64, 2, 1], "Input should be 1"),
        ("shared_bytes", -1, "greater than or equal to 0"),
        ("cubin/sha256", "0" * 63, "should match pattern"),
        ("ptx/size", None, "should be a valid integer"),
    ],
)
def test_refuses_what_no_build_writes(path, value, says):
    changed = deepcopy(EXAMPLE)
    at = changed
    *steps, last = [int(step) if step.isdigit() else step for step in path.split("/")]
    for step in steps:
        at = at[step]
    at[last] = value
    with pytest.raises(ValidationError, match=says):
        LaunchRecord.model_validate_json(json.dumps(changed))


@pytest.mark.parametrize("name", sorted(EXAMPLE.keys() - {"version"}))
def test_refuses_a_record_that_lacks_something(name):
    with pytest.raises(ValidationError, match="Field required"):
        LaunchRecord.model_validate_json(json.dumps({key: value for key, value in EXAMPLE.items() if key != name}))


@pytest.mark.parametrize("text", ["", "[]", "null", '{"version": 1', "\0"])
def test_refuses_what_is_no_record(text):
    with pytest.raises(ValidationError):
        LaunchRecord.model_validate_json(text)
