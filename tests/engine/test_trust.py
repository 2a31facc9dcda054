"""Whose engines may run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from uperfuse.engine.errors import BackendError
from uperfuse.engine.keyring import Keyring
from uperfuse.engine.plan import Plan, write_plan
from uperfuse.engine.trust import Trust, may_run_engines

from .plan.examples import AERIAL, COVER, a_manifest, members_of, with_payloads

STRANGER = Ed25519PrivateKey.from_private_bytes(b"s" * 32)


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    return Keyring.open(tmp_path / "uperfuse" / "keys")


def _asked(path: Path, *signers: Ed25519PrivateKey, **options: Any) -> Trust:
    manifest = with_payloads(a_manifest((AERIAL,), (COVER,)))
    write_plan(path / "a.plan", manifest, members_of(manifest), sign_with=signers)
    with Plan.open(path / "a.plan") as plan:
        return may_run_engines(plan, **options)


def test_engines_run_from_plans_that_the_keyring_knows(tmp_path: Path, keyring: Keyring) -> None:
    keyring.new("agency")
    agency, machine = keyring.private_key("agency"), keyring.machine_key()
    assert _asked(tmp_path, agency, keyring=keyring) == Trust(True, "signed by agency of the keyring")
    assert _asked(tmp_path, machine, keyring=keyring) == Trust(True, "signed on this machine")
    assert _asked(tmp_path, STRANGER, agency, keyring=keyring).allowed
    unsigned = _asked(tmp_path, keyring=keyring)
    assert not unsigned.allowed
    assert unsigned.reason.startswith("not signed; `uperfuse sign`")
    stranger = _asked(tmp_path, STRANGER, keyring=keyring)
    assert not stranger.allowed
    assert f"signed by {STRANGER.public_key().public_bytes_raw().hex()[:16]}, which the keyring does" in stranger.reason
    keyring.remove("agency")
    assert not _asked(tmp_path, agency, keyring=keyring).allowed


def test_the_users_own_keyring_counts_where_none_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    assert not _asked(tmp_path).allowed
    assert not (tmp_path / "config").exists()
    assert _asked(tmp_path, Keyring.open().machine_key()).allowed


def test_all_or_none_does_not_ask_the_keyring(tmp_path: Path, keyring: Keyring) -> None:
    machine = keyring.machine_key()
    (keyring.folder / "machine.pub").chmod(0o666)
    assert _asked(tmp_path, keyring=keyring, trust="any") == Trust(
        True, "engines are run whoever built them, as asked for by trust='any'"
    )
    assert _asked(tmp_path, machine, keyring=keyring, trust="none") == Trust(
        False, "prebuilt engines are not run, as asked for by trust='none'"
    )


def test_a_keyring_that_others_could_write_believes_nobody(tmp_path: Path, keyring: Keyring) -> None:
    machine = keyring.machine_key()
    keyring.folder.chmod(0o777)
    answer = _asked(tmp_path, machine, keyring=keyring)
    assert not answer.allowed
    assert answer.reason.startswith(
        f"nobody's signature is believed, because {keyring.folder} may be written by others"
    )


def test_without_a_place_for_a_keyring_nobody_is_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    answer = _asked(tmp_path, STRANGER)
    assert not answer.allowed
    assert "XDG_CONFIG_HOME is 'relative'" in answer.reason


@pytest.mark.parametrize("trust", ["Local", "", "signed", None, True])
def test_trust_is_one_of_three_words(tmp_path: Path, trust: Any) -> None:
    with pytest.raises(BackendError, match="expected one of local, any, none"):
        _asked(tmp_path, trust=trust)
