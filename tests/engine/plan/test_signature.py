"""Signatures of plans: who signed is known when a plan is open, and nothing else about the plan changes."""

from __future__ import annotations

import itertools
import zipfile
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from uperfuse.engine.errors import PlanError
from uperfuse.engine.plan import Plan, sign_plan, write_plan
from uperfuse.engine.plan.container import MANIFEST
from uperfuse.engine.plan.signature import MAX_SIGNATURES, SIGNATURE, check_signatures, sign_manifest, weakness_of

from .examples import AERIAL, COVER, a_manifest, members_of


def key_of(seed: int) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)


def public(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes_raw()


KEYS = [key_of(seed) for seed in range(MAX_SIGNATURES + 1)]


def _write(path: Path, *signers: Ed25519PrivateKey) -> str:
    manifest = a_manifest((AERIAL,), (COVER,))
    return write_plan(path, manifest, members_of(manifest), sign_with=signers)


def test_signing_changes_nothing_but_who_signed(tmp_path: Path) -> None:
    path = tmp_path / "a.plan"
    said = _write(path)
    with Plan.open(path) as plan:
        before = plan.manifest, {name: bytes(plan.member(name)) for name in plan.manifest.members}
        assert plan.signed_by == ()
    assert sign_plan(path, KEYS[0]) == (public(KEYS[0]),)
    with Plan.open(path) as plan:
        assert (plan.manifest, {name: bytes(plan.member(name)) for name in plan.manifest.members}) == before
        assert plan.hash == said
        assert plan.signed_by == (public(KEYS[0]),)
        assert plan.size == path.stat().st_size
        with pytest.raises(PlanError, match="has no member 'signature'"):
            plan.member(SIGNATURE)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.plan"]


@settings(max_examples=25, deadline=None)
@given(st.permutations(range(4)), st.integers(0, 4))
def test_the_same_signers_make_the_same_bytes(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], at_once: int
) -> None:
    folder = tmp_path_factory.mktemp("orders")
    _write(folder / "expected.plan", *KEYS[:4])
    _write(folder / "a.plan", *(KEYS[place] for place in order[:at_once]))
    for place in order[at_once:]:
        sign_plan(folder / "a.plan", KEYS[place])
    assert (folder / "a.plan").read_bytes() == (folder / "expected.plan").read_bytes()
    assert sign_plan(folder / "a.plan", KEYS[order[0]]) == tuple(sorted(map(public, KEYS[:4])))
    assert (folder / "a.plan").read_bytes() == (folder / "expected.plan").read_bytes()


def test_there_is_room_for_eight(tmp_path: Path) -> None:
    path = tmp_path / "a.plan"
    _write(path, *KEYS[:-1])
    content = path.read_bytes()
    with pytest.raises(PlanError, match="9 signatures, a plan holds at most 8"):
        sign_plan(path, KEYS[-1])
    assert path.read_bytes() == content
    assert len(sign_plan(path, KEYS[0])) == MAX_SIGNATURES
    with pytest.raises(PlanError, match="at most 8"):
        _write(path, *KEYS)
    assert path.read_bytes() == content


def test_a_manifest_that_another_release_wrote_keeps_its_bytes(tmp_path: Path) -> None:
    """Signing copies the manifest: to write it anew could change its hash, and void the others' signatures."""
    from ...fixtures.hostile_archive import sound

    path = tmp_path / "a.plan"
    path.write_bytes(sound())
    with zipfile.ZipFile(path) as archive:
        before = archive.read(MANIFEST)
    sign_plan(path, KEYS[0])
    sign_plan(path, KEYS[1])
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert archive.read(MANIFEST) == before
        assert len(archive.read(SIGNATURE)) == 2 * 96
        assert sorted(archive.namelist(), key=lambda name: (name != MANIFEST, name)) == archive.namelist()


def test_what_is_signed_is_the_manifest_behind_a_prefix(tmp_path: Path) -> None:
    _write(tmp_path / "a.plan", KEYS[0])
    with zipfile.ZipFile(tmp_path / "a.plan") as archive:
        manifest, content = archive.read(MANIFEST), archive.read(SIGNATURE)
    assert content[:32] == public(KEYS[0])
    KEYS[0].public_key().verify(content[32:], b"uperfuse plan signature 1\0" + manifest)
    with pytest.raises(PlanError, match="wrong signature"):
        check_signatures(content[:32] + KEYS[0].sign(manifest), manifest=manifest)


def test_a_plan_whose_member_is_damaged_is_not_signed(tmp_path: Path) -> None:
    path = tmp_path / "a.plan"
    _write(path)
    spoilt = path.read_bytes().replace(b"logits of AERIAL", b"LOGITS of AERIAL")
    path.write_bytes(spoilt)
    with pytest.raises(PlanError, match="wrong hash of member check/"):
        sign_plan(path, KEYS[0])
    assert path.read_bytes() == spoilt


def test_every_byte_of_a_signature_counts(tmp_path: Path) -> None:
    manifest = b"{}"
    content = sign_manifest(manifest, keys=KEYS[:2])
    assert check_signatures(content, manifest=manifest) == tuple(sorted(map(public, KEYS[:2])))
    for at in range(len(content)):
        spoilt = bytearray(content)
        spoilt[at] ^= 1
        with pytest.raises(PlanError):
            check_signatures(bytes(spoilt), manifest=manifest)
    with pytest.raises(PlanError, match="wrong signature"):
        check_signatures(content, manifest=b"{ }")
    for size in (*range(96), 97, 191, 193, 9 * 96):
        with pytest.raises(PlanError, match="expected 1 to 8 records of 96"):
            check_signatures((content * 5)[:size], manifest=manifest)


@given(st.lists(st.integers(0, 9), max_size=10), st.integers(-1, 9))
def test_only_right_records_in_their_one_order_are_accepted(chosen: list[int], cut: int) -> None:
    """Records of eight keys over this manifest and of two over another, in any order, cut anywhere or nowhere."""
    good = sorted(sign_manifest(b"{}", keys=[key]) for key in KEYS[:8])
    records = [*good, *(sign_manifest(b"[]", keys=[key]) for key in KEYS[1:3])]
    content = b"".join(records[place] for place in chosen)[: None if cut < 0 else -cut - 1]
    sound = chosen and cut < 0 and max(chosen) < 8 and all(a < b for a, b in itertools.pairwise(chosen))
    if sound:
        assert check_signatures(content, manifest=b"{}") == tuple(good[place][:32] for place in chosen)
    else:
        with pytest.raises(PlanError):
            check_signatures(content, manifest=b"{}")


def _forged(key: bytes) -> tuple[bytes, bytes]:
    """A manifest and a signature member that the library accepts for a key of small order, without any private key."""
    neutral = (1).to_bytes(32, "little")
    for number in itertools.count():
        manifest = b"%d" % number
        try:
            Ed25519PublicKey.from_public_bytes(key).verify(
                neutral + bytes(32), b"uperfuse plan signature 1\0" + manifest
            )
        except InvalidSignature:  # about one in eight passes
            continue
        return manifest, key + neutral + bytes(32)
    raise AssertionError


def test_keys_for_which_anybody_could_sign_are_refused() -> None:
    prime, order_8 = 2**255 - 19, 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
    for y, said in [
        *((y, "anybody can sign for that key") for y in (0, 1, prime - 1, order_8, prime - order_8)),
        *((y, "in a form that no program gives") for y in (prime, prime + 1)),
    ]:
        key = y.to_bytes(32, "little")
        manifest, content = _forged(key)
        with pytest.raises(PlanError, match=said):
            check_signatures(content, manifest=manifest)
        assert weakness_of(key[:31] + bytes([key[31] | 0x80])) is not None
    assert all(weakness_of(public(key)) is None for key in KEYS)


def test_writing_anew_signs_anew(tmp_path: Path) -> None:
    _write(tmp_path / "a.plan", KEYS[0])
    with Plan.open(tmp_path / "a.plan") as plan:
        members = {name: plan.member(name) for name in plan.manifest.members}
        write_plan(tmp_path / "b.plan", plan.manifest, members)
        with pytest.raises(PlanError, match=r"signature is made with the keys in sign_with; leave it out"):
            write_plan(tmp_path / "c.plan", plan.manifest, {**members, SIGNATURE: b""})
    with Plan.open(tmp_path / "b.plan") as plan:
        assert plan.signed_by == ()


def test_a_signed_file_keeps_its_mode_and_a_link_stays_a_link(tmp_path: Path) -> None:
    real, link = tmp_path / "real.plan", tmp_path / "link.plan"
    _write(real)
    real.chmod(0o640)
    link.symlink_to("real.plan")
    sign_plan(link, KEYS[0])
    assert link.is_symlink()
    assert real.stat().st_mode & 0o777 == 0o640
    with Plan.open(real) as plan:
        assert plan.signed_by == (public(KEYS[0]),)


def test_a_plan_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    path = tmp_path / f"{'a' * 245}.plan"  # one that is not yet complete has a longer name
    manifest = a_manifest((AERIAL,), (COVER,))
    write_plan(tmp_path / "a.plan", manifest, members_of(manifest))
    content = (tmp_path / "a.plan").read_bytes()
    path.write_bytes(content)
    with pytest.raises(PlanError, match="cannot be written: File name too long"):
        sign_plan(path, KEYS[0])
    assert path.read_bytes() == content
    assert len(list(tmp_path.iterdir())) == 2
