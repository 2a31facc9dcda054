"""`uperfuse sign` and `uperfuse keys`, from what is typed to what lies in the keyring and the plan."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from uperfuse.engine.cli import app
from uperfuse.engine.errors import KeyringError, PlanError
from uperfuse.engine.keyring import Keyring
from uperfuse.engine.plan import Plan, write_plan
from uperfuse.engine.trust import may_run_engines

from .plan.examples import AERIAL, COVER, a_manifest, members_of, with_payloads


@pytest.fixture(autouse=True)
def keyring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Keyring:
    """The user's keyring, empty."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return Keyring.open()


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    """A plan with engines that nobody signed."""
    manifest = with_payloads(a_manifest((AERIAL,), (COVER,)))
    write_plan(tmp_path / "a.plan", manifest, members_of(manifest))
    return tmp_path / "a.plan"


def run(*arguments: object, typed: str = "") -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)], input=typed)


def done(*arguments: object, typed: str = "") -> str:
    """What a command prints that succeeds."""
    result = run(*arguments, typed=typed)
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout


def refused(*arguments: object, typed: str = "") -> str:
    """The sentence of a command that fails."""
    result = run(*arguments, typed=typed)
    assert result.exit_code == 1
    assert isinstance(result.exception, KeyringError | PlanError)
    return str(result.exception)


def signers(path: Path) -> set[bytes]:
    with Plan.open(path) as opened:
        return set(opened.signed_by)


def test_the_machines_key_vouches_for_a_plan_here(plan: Path, keyring: Keyring) -> None:
    with Plan.open(plan) as opened:
        assert not may_run_engines(opened).allowed
    said = done("sign", plan)
    key = keyring.key("machine")
    assert said == f"{plan} is signed by machine\nkey {key.public.hex()}\n"
    with Plan.open(plan) as opened:
        assert may_run_engines(opened).allowed
    assert done("sign", plan).startswith(f"{plan} was signed already by machine\n")


def test_a_key_of_ones_own_goes_to_another_machine(
    plan: Path, keyring: Keyring, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = keyring_line(done("keys", "new", "agency"))
    assert done("keys", "show", "agency") == line
    done("sign", plan)
    assert done("sign", plan, "--key", "agency").startswith(f"{plan} is signed by agency, and by 1 other key\n")
    (tmp_path / "agency.pub").write_text(line)

    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "elsewhere"))
    with Plan.open(plan) as opened:
        assert not may_run_engines(opened).allowed
    assert line.split()[1] in done("keys", "add", tmp_path / "agency.pub", "--name", "mapping")
    with Plan.open(plan) as opened:
        assert may_run_engines(opened).reason == "signed by mapping of the keyring"
    listed = done("keys", "list").splitlines()
    assert [line.split()[:1] + line.split()[2:] for line in listed[2:]] == [["mapping", "no"]]
    assert "only the public half of mapping" in refused("sign", plan, "--key", "mapping")
    assert done("keys", "remove", "mapping") == "mapping is believed no more.\n"
    with Plan.open(plan) as opened:
        assert not may_run_engines(opened).allowed


def keyring_line(said: str) -> str:
    """The public half as `keys new` shows it."""
    line = said.splitlines(keepends=True)[-1]
    assert line.startswith("ed25519 ")
    return line


def test_keys_are_listed_with_what_they_are_for(keyring: Keyring) -> None:
    assert done("keys", "list") == f"No keys in {keyring.folder}; uperfuse keys new NAME makes one.\n"
    keyring.machine_key()
    me = keyring.new("me")
    rows = [" ".join(line.split()) for line in done("keys", "list").splitlines()]
    assert f"me {me.public.hex()} yes" in rows
    assert f"machine {keyring.key('machine').public.hex()} what is built here" in rows
    assert len(rows) == 4


def test_a_passphrase_is_typed_when_it_is_made_and_when_it_signs(plan: Path, keyring: Keyring) -> None:
    done("keys", "new", "me", "--passphrase", typed="quiet words\nquiet words\n")
    with pytest.raises(KeyringError, match="has a passphrase"):
        keyring.private_key("me")
    assert "the passphrase is wrong" in refused("sign", plan, "--key", "me", typed="loud words\n")
    assert signers(plan) == set()
    said = done("sign", plan, "--key", "me", typed="quiet words\n")
    assert "quiet words" not in said
    assert signers(plan) == {keyring.key("me").public}


def test_a_private_half_is_not_removed_by_accident(keyring: Keyring) -> None:
    made = keyring.new("me")
    assert "me was not removed, as answered" in refused("keys", "remove", "me", typed="n\n")
    assert run("keys", "remove", "me").exit_code == 1  # nobody answers
    assert keyring.keys() == (made,)
    done("keys", "remove", "me", typed="y\n")
    keyring.new("me")
    done("keys", "remove", "me", "--yes")
    assert keyring.keys() == ()


def test_a_damaged_key_can_be_removed(keyring: Keyring) -> None:
    keyring.new("me")
    keyring.new("you")
    (keyring.folder / "me.pub").write_text("?")
    assert "me.pub is damaged" in refused("keys", "list")
    done("keys", "remove", "me", "--yes")
    assert [line.split()[0] for line in done("keys", "list").splitlines()[2:]] == ["you"]


def test_what_cannot_be_done_is_said_and_changes_nothing(plan: Path, keyring: Keyring, tmp_path: Path) -> None:
    content = plan.read_bytes()
    assert "no key 'nobody'" in refused("sign", plan, "--key", "nobody")
    assert "No such file" in refused("sign", tmp_path / "missing.plan")
    assert not keyring.folder.exists()
    for command in ("show", "remove"):
        assert "no key 'nobody' in" in refused("keys", command, "nobody")
    assert "cannot be read: No such file" in refused("keys", "add", tmp_path / "missing.pub")
    assert "expected up to 64 letters" in refused("keys", "new", "a/b")
    plan.write_bytes(content[:-1])
    assert "truncated" in refused("sign", plan)
    assert plan.read_bytes() == content[:-1]


def test_a_failure_is_one_sentence_on_the_terminal(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "uperfuse.engine.cli", "keys", "show", "nobody"]
    result = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "XDG_CONFIG_HOME": str(tmp_path)}
    )
    assert result.returncode == 1
    assert result.stderr == f"error: no key 'nobody' in {tmp_path}/uperfuse/keys; there are: none yet\n"
