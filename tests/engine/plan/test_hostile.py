"""Hostile plans: each gets a `PlanError` that names the rule, and nothing else ever happens."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from uperfuse.engine.errors import PlanError
from uperfuse.engine.plan import Manifest, Plan, write_plan

from ...fixtures.hostile_archive import sound, text, tree, with_manifest
from ...fixtures.hostile_payloads import (
    ENGINES,
    TARGET,
    built,
    built_tree,
    engine_member,
    signature,
    signed,
    with_engines,
)
from ...fixtures.make_hostile_plans import FOLDER, HOSTILE
from .examples import a_manifest, members_of, with_payloads

_MOST_MEMORY = 256 * 2**20


def _read(path: Path) -> tuple[Manifest, dict[str, bytes]]:
    with Plan.open(path) as plan:
        for name in plan.manifest.members:
            plan.rehash(name)
        return plan.manifest, {name: bytes(plan.member(name)) for name in plan.manifest.members}


def _signers(path: Path) -> set[bytes]:
    with Plan.open(path) as plan:
        return set(plan.signed_by)


def test_the_committed_files_are_those_the_script_makes() -> None:
    assert {path.stem: path.read_bytes() for path in FOLDER.iterdir()} == {
        name: make() for name, (make, _) in HOSTILE.items()
    }


def test_what_they_are_made_from_is_sound(tmp_path: Path) -> None:
    (tmp_path / "sound.plan").write_bytes(sound())
    manifest, members = _read(tmp_path / "sound.plan")
    assert manifest.name == "hostile"
    assert set(members) == {"segments/encoder.onnx", "segments/decode.onnx"}
    (tmp_path / "signed.plan").write_bytes(signed(signature(1, text())))
    assert _read(tmp_path / "signed.plan") == (manifest, members)
    (tmp_path / "built.plan").write_bytes(built())
    manifest, members = _read(tmp_path / "built.plan")
    assert [engine.target for engine in manifest.engines] == [TARGET]
    assert set(members) == {"segments/encoder.onnx", "segments/decode.onnx", *map(engine_member, ENGINES)}


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_refused_with_the_rule_by_name(name: str) -> None:
    path = FOLDER / f"{name}.plan"
    tracemalloc.start()
    try:
        with pytest.raises(PlanError) as refusal:
            _read(path)
        assert tracemalloc.get_traced_memory()[1] < _MOST_MEMORY
    finally:
        tracemalloc.stop()
    sentence = str(refusal.value)
    assert HOSTILE[name][1] in sentence
    assert sentence.startswith(str(path))
    assert sentence.isprintable()
    assert len(sentence) < 600


@pytest.fixture(scope="module", params=["bare", "with payloads and signatures"])
def good(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("good") / "good.plan"
    manifest = a_manifest(("AERIAL_RGBI", "SENTINEL2_TS"), ("AERIAL_LABEL-COSIA",))
    if request.param == "bare":
        write_plan(path, manifest, members_of(manifest))
    else:
        keys = [Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32) for seed in (1, 2)]
        full = with_payloads(manifest)
        write_plan(path, full, members_of(full), sign_with=keys)
    return path


def _edges(content: bytes) -> list[int]:
    """Offsets of headers, records and members, where a change says something."""
    marks = (b"PK\3\4", b"PK\1\2", b"PK\5\6", b"segments/", b"manifest.json", b"signature", b"tensorrt/")
    found = {0, len(content)}
    for mark in marks:
        at = content.find(mark)
        while at >= 0:
            found |= {at, at + 4}
            at = content.find(mark, at + 1)
    return sorted(found)


_KINDS = ("flip", "overwrite", "everywhere", "cut", "insert", "remove", "copy", "swap", "repeat_record")


@st.composite
def _mutations(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    kind = draw(st.sampled_from(_KINDS))
    near, share = draw(st.booleans()), draw(st.floats(0, 1))
    shift, length = draw(st.integers(0, 60)), draw(st.integers(1, 400))
    other, new = draw(st.floats(0, 1)), draw(st.binary(min_size=1, max_size=12))
    bit = draw(st.integers(0, 7))

    def place(content: bytes, share: float) -> int:
        if near:
            edges = _edges(content)
            return min(edges[int(share * (len(edges) - 1))] + shift, len(content) - 1)
        return int(share * (len(content) - 1))

    def mutate(content: bytes) -> bytes:
        if not content:
            return new
        at, to = place(content, share), place(content, other)
        if kind == "flip":
            return content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :]
        if kind == "overwrite":
            return content[:at] + new + content[at + len(new) :]
        if kind == "everywhere":  # so that headers and directory still agree
            return content.replace(content[at : at + len(new)], new)
        if kind == "cut":
            return content[:at]
        if kind == "insert":
            return content[:at] + new + content[at:]
        if kind == "remove":
            return content[:at] + content[at + length :]
        if kind == "copy":
            return content[:to] + content[at : at + length] + content[to:]
        if kind == "swap":
            first, last = sorted((at, to))
            return content[last:] + content[first:last] + content[:first]
        start, end = content.find(b"PK\1\2", at), content.rfind(b"PK\5\6")
        stop = content.find(b"PK\1\2", start + 4) if start >= 0 else -1
        if start < 0 or stop < 0 or end < stop:
            return content[:at] + content
        count = (int.from_bytes(content[end + 8 : end + 10], "little") + 1) % 65536
        size = (int.from_bytes(content[end + 12 : end + 16], "little") + stop - start) % 2**32
        tail = content[end : end + 8] + count.to_bytes(2, "little") * 2 + size.to_bytes(4, "little")
        return content[:stop] + content[start:stop] + content[stop:end] + tail + content[end + 16 :]

    return mutate


@settings(max_examples=300)
@given(mutations=st.lists(_mutations(), min_size=1, max_size=3))
def test_a_mutated_plan_is_refused_or_unchanged(good: Path, mutations: list[Callable[[bytes], bytes]]) -> None:
    content = good.read_bytes()
    for mutate in mutations:
        content = mutate(content)
    path = good.with_name("mutated.plan")
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with suppress(PlanError):
            assert _read(path) == _read(good)
            assert _signers(path) <= _signers(good)
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()


_ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["", "../x", "\x1b[31m", "\u202e", "B", "T", 0, 1, 2, -1, 1e308, "a" * 300]),
    st.builds(list),
    st.builds(dict),
)


def _leaves(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) below `value`."""
    found = []
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            found += [(value, key), *_leaves(value[key])]
    return found


@pytest.mark.parametrize(("honest", "plan_of"), [(tree, with_manifest), (built_tree, with_engines)])
@settings(max_examples=250)
@given(data=st.data())
def test_a_manifest_with_odd_values_is_refused_or_means_what_it_says(
    tmp_path_factory: pytest.TempPathFactory,
    honest: Callable[[], dict[str, Any]],
    plan_of: Callable[[bytes], bytes],
    data: st.DataObject,
) -> None:
    """The CRC is right, so that the manifest itself has to stand: what is accepted reads the same a second time."""
    changed = honest()
    for _ in range(data.draw(st.integers(1, 2))):
        container, key = data.draw(st.sampled_from(_leaves(changed)))
        action = data.draw(st.sampled_from(["replace", "remove", "add"]))
        if action == "replace":
            container[key] = data.draw(_ODD)
        elif action == "remove":
            del container[key]
        elif isinstance(container, dict):
            container[data.draw(st.text(max_size=10))] = data.draw(_ODD)
        else:
            container.append(data.draw(_ODD))
    path = tmp_path_factory.getbasetemp() / "odd.plan"
    path.write_bytes(plan_of(json.dumps(changed).encode()))
    try:
        manifest, members = _read(path)
    except PlanError:
        return
    assert Manifest.model_validate_json(manifest.model_dump_json(), strict=True) == manifest
    write_plan(path, manifest, members)
    assert _read(path) == (manifest, members)


@pytest.mark.parametrize(
    "bomb",
    [
        b"[" * 3_000_000,
        b'{"a":' * 600_000,
        b'["' + b'\\"' * 1_500_000 + b'"]',
        b'"' * 3_000_000,
        b"9" * 3_000_000,
        b'{"schema_version":1,"accuracy":[' + b"{}," * 19_000 + b"{}]}",
        b'{"schema_version":1,"members":{' + b",".join(b'"%d":{}' % i for i in range(19_000)) + b"}}",
    ],
    ids=["arrays", "objects", "escapes", "quotes", "digits", "errors", "members"],
)
def test_a_large_manifest_costs_little_memory(tmp_path: Path, bomb: bytes) -> None:
    path = tmp_path / "bomb.plan"
    path.write_bytes(with_manifest(bomb))
    tracemalloc.start()
    try:
        with pytest.raises(PlanError) as refusal:
            Plan.open(path)
        assert tracemalloc.get_traced_memory()[1] < _MOST_MEMORY
    finally:
        tracemalloc.stop()
    assert len(str(refusal.value)) < 600
