"""The user's keyring: what is put in is believed, what others could have put in is not."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from uperfuse.engine.errors import KeyringError
from uperfuse.engine.key_files import parse_line, public_line
from uperfuse.engine.keyring import MACHINE, Key, Keyring
from uperfuse.engine.plan import Plan, sign_plan, write_plan

from .plan.examples import AERIAL, COVER, a_manifest, members_of


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    """An empty keyring whose folder is not there yet."""
    return Keyring.open(tmp_path / "uperfuse" / "keys")


def public(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes_raw()


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_it_lies_in_the_users_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    assert Keyring.open().folder == tmp_path / "config" / "uperfuse" / "keys"
    monkeypatch.setenv("XDG_CONFIG_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Keyring.open().folder == tmp_path / ".config" / "uperfuse" / "keys"
    monkeypatch.setenv("XDG_CONFIG_HOME", "here")  # would be another folder wherever the program is started
    with pytest.raises(KeyringError, match="XDG_CONFIG_HOME is 'here', expected an absolute path"):
        Keyring.open()


def test_looking_makes_nothing(keyring: Keyring, tmp_path: Path) -> None:
    assert keyring.keys() == ()
    assert keyring.name_of(bytes(32)) is None
    with pytest.raises(KeyringError, match=r"no key 'me' in .*; there are: none yet"):
        keyring.key("me")
    assert list(tmp_path.iterdir()) == []


def test_a_new_key_signs_and_is_believed(keyring: Keyring) -> None:
    made = keyring.new("me")
    assert keyring.keys() == (made,) == (Key("me", made.public, own=True),)
    assert public(keyring.private_key("me")) == made.public
    assert keyring.name_of(made.public) == "me"
    assert (_mode(keyring.folder.parent), _mode(keyring.folder)) == (0o700, 0o700)
    assert {path.name: _mode(path) for path in keyring.folder.iterdir()} == {"me.key": 0o600, "me.pub": 0o600}
    assert (keyring.folder / "me.pub").read_text() == f"ed25519 {made.public.hex()} me\n"
    assert keyring.new("you").public != made.public


def test_a_passphrase_is_asked_for_and_must_be_right(keyring: Keyring) -> None:
    made = keyring.new("me", passphrase="correct horse, é")
    assert public(keyring.private_key("me", ask=lambda: "correct horse, é")) == made.public
    with pytest.raises(KeyringError, match="the passphrase is wrong"):
        keyring.private_key("me", ask=lambda: "wrong")
    with pytest.raises(KeyringError, match="has a passphrase, and there is nobody to ask"):
        keyring.private_key("me")
    assert b"ENCRYPTED" in (keyring.folder / "me.key").read_bytes()
    # who has none is not asked
    keyring.new("open")
    keyring.private_key("open", ask=lambda: pytest.fail("was asked"))


@pytest.mark.parametrize("passphrase", ["", "x" * 201])
def test_a_passphrase_that_would_be_none_is_refused(keyring: Keyring, passphrase: str) -> None:
    with pytest.raises(KeyringError, match=r"passphrase of (0|201) characters, expected 1 to 200"):
        keyring.new("me", passphrase=passphrase)
    assert keyring.keys() == ()
    keyring.new("me", passphrase="é" * 200)
    keyring.private_key("me", ask=lambda: "é" * 200)


def test_the_private_half_is_plain_pkcs8(keyring: Keyring) -> None:
    made = keyring.new("me")
    loaded = serialization.load_pem_private_key((keyring.folder / "me.key").read_bytes(), None)
    assert isinstance(loaded, Ed25519PrivateKey)
    assert public(loaded) == made.public


def test_a_key_travels_as_one_line(keyring: Keyring, tmp_path: Path) -> None:
    made = Keyring.open(tmp_path / "other" / "keys").new("agency")
    file = tmp_path / "agency.txt"
    file.write_text(made.line)
    assert keyring.add(file) == Key("agency", made.public, own=False)
    with pytest.raises(KeyringError, match="only the public half of agency"):
        keyring.private_key("agency")
    with pytest.raises(KeyringError, match=r"agency is in .* already"):
        keyring.add(file)
    with pytest.raises(KeyringError, match="the key that is here already as agency"):
        keyring.add(file, name="again")
    keyring.remove("agency")
    assert keyring.add(file, name="theirs").name == "theirs"
    file.write_text(f"ed25519 {made.public.hex()}")
    with pytest.raises(KeyringError, match="does not say whose key it is"):
        keyring.add(file)


@given(st.binary(min_size=32, max_size=32), st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,63}", fullmatch=True))
def test_a_line_is_read_as_it_was_written(key: bytes, name: str) -> None:
    assert parse_line(public_line(key, name).encode(), what="x") == (key, name)


@given(st.binary(max_size=200))
def test_any_other_bytes_are_refused_in_words(content: bytes) -> None:
    with pytest.raises(KeyringError, match=r"x is damaged|private key"):
        parse_line(content, what="x")


_GOOD = b"ed25519 " + b"ab" * 32


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "damaged"),
        (_GOOD[:-1] + b" me", "damaged"),
        (_GOOD.upper() + b" me", "damaged"),
        (_GOOD + b" me\n" + _GOOD + b" you", "damaged"),
        (_GOOD + b" ../me", "damaged"),
        (_GOOD + " mé".encode(), "damaged"),
        (_GOOD + b" me\x1b[2J", "damaged"),
        (b"ed25519 " + b"01" + b"00" * 31 + b" me", "anybody can sign for that key"),
        (b"ed25519 " + b"ff" * 32 + b" me", "in a form that no program gives"),
        (b"-----BEGIN PRIVATE KEY-----\n", "holds a private key, which is nobody's to hand on"),
    ],
)
def test_what_is_no_public_key_is_neither_added_nor_believed(
    keyring: Keyring, tmp_path: Path, content: bytes, said: str
) -> None:
    keyring.new("sound")
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(KeyringError, match=said):
        keyring.add(tmp_path / "file", name="me")
    (keyring.folder / "me.pub").write_bytes(content)
    for look in (keyring.keys, lambda: keyring.key("sound"), lambda: keyring.name_of(bytes(32))):
        with pytest.raises(KeyringError, match=said):
            look()


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "..", "a b", "é", "a" * 65, "a\n", "-x"])
def test_a_name_is_one_that_a_file_can_have(keyring: Keyring, name: str) -> None:
    for ask in (keyring.new, keyring.remove):
        with pytest.raises(KeyringError, match="expected up to 64 letters, digits"):
            ask(name)


@pytest.mark.parametrize(
    ("file", "mode", "said"),
    [
        ("keys", 0o770, r"may be written by others \(mode 0770\); .* `chmod go-w "),
        ("keys", 0o707, r"may be written by others \(mode 0707\)"),
        (".", 0o777, "may be written by others"),
        ("keys/me.pub", 0o666, r"me\.pub may be written by others \(mode 0666\)"),
        ("keys/me.pub", 0o620, "may be written by others"),
        ("keys/me.key", 0o640, r"me\.key may be read by others \(mode 0640\); .* `chmod 600 "),
        ("keys/me.key", 0o602, "may be written by others"),
    ],
)
def test_what_others_could_have_written_is_refused(keyring: Keyring, file: str, mode: int, said: str) -> None:
    keyring.new("me")
    path = keyring.folder.parent / file
    kept = _mode(path)
    path.chmod(mode)
    with pytest.raises(KeyringError, match=said):
        keyring.private_key("me")
    if not file.endswith(".key"):
        with pytest.raises(KeyringError, match=said):
            keyring.keys()
        with pytest.raises(KeyringError, match=said):
            keyring.machine_key()
    path.chmod(kept)
    keyring.private_key("me")


def test_public_files_may_be_read_by_others(keyring: Keyring) -> None:
    keyring.new("me")
    keyring.folder.chmod(0o755)
    (keyring.folder / "me.pub").chmod(0o644)
    assert keyring.key("me").own


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize("file", [".", "keys", "keys/me.pub", "keys/me.key"])
def test_what_belongs_to_somebody_else_is_refused(keyring: Keyring, file: str) -> None:
    keyring.new("me")
    os.chown(keyring.folder.parent / file, 12345, -1)
    with pytest.raises(KeyringError, match="belongs to user 12345"):
        keyring.private_key("me")


def test_links_pipes_folders_and_large_files_are_refused(keyring: Keyring, tmp_path: Path) -> None:
    made = keyring.new("me")
    path = keyring.folder / "me.pub"
    for spoil, said in [
        (lambda: path.symlink_to(tmp_path / "elsewhere"), "is a link"),
        (lambda: os.mkfifo(path, 0o600), "is no file of at most 4096 bytes"),
        (lambda: path.mkdir(0o700), "is no file of at most 4096 bytes"),
        (lambda: path.write_text(made.line + " " * 5000), "is no file of at most 4096 bytes"),
    ]:
        path.unlink()
        spoil()
        with pytest.raises(KeyringError, match=said):
            keyring.keys()
        if path.is_dir():
            path.rmdir()
            path.touch(0o600)
    folder = Keyring.open(tmp_path / "elsewhere" / "keys")
    (tmp_path / "elsewhere").write_text("a file")
    for ask in (folder.keys, lambda: folder.new("me"), folder.machine_key):
        with pytest.raises(KeyringError, match="is not a folder"):
            ask()
    below = Keyring.open(tmp_path / "elsewhere" / "uperfuse" / "keys")
    for ask in (below.keys, lambda: below.new("me"), below.machine_key):
        with pytest.raises(KeyringError, match=r"cannot be (read|written): "):
            ask()


def test_a_private_half_that_is_not_one_is_refused(keyring: Keyring) -> None:
    keyring.new("me")
    path = keyring.folder / "me.key"
    sound = path.read_bytes()
    other = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    keyring.new("you")
    for content, said in [
        (b"", "the file is damaged"),
        (sound[:60], "the file is damaged"),
        (b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n", "nobody to ask"),
        (other, "a key of another kind, expected Ed25519"),
        ((keyring.folder / "you.key").read_bytes(), "are not halves of one key"),
    ]:
        path.write_bytes(content)
        with pytest.raises(KeyringError, match=said):
            keyring.private_key("me")


def test_what_is_removed_is_gone(keyring: Keyring) -> None:
    made = keyring.new("me")
    keyring.new("you")
    keyring.remove("me")
    (kept,) = keyring.keys()
    assert kept.name == "you"
    assert sorted(path.name for path in keyring.folder.iterdir()) == ["you.key", "you.pub"]
    with pytest.raises(KeyringError, match=r"no key 'me' in .*; there are: you"):
        keyring.remove("me")
    assert keyring.new("me").public != made.public


def test_a_name_that_is_taken_is_not_taken_over(keyring: Keyring) -> None:
    keyring.new("me")
    before = {path.name: path.read_bytes() for path in keyring.folder.iterdir()}
    with pytest.raises(KeyringError, match=r"me is in .* already; choose another name"):
        keyring.new("me")
    with pytest.raises(KeyringError, match="machine is the name of this machine's own key"):
        keyring.new(MACHINE)
    assert {path.name: path.read_bytes() for path in keyring.folder.iterdir()} == before


def test_the_machines_key_is_made_once(keyring: Keyring) -> None:
    first = keyring.machine_key()
    assert public(keyring.machine_key()) == public(first)
    assert keyring.keys() == (Key(MACHINE, public(first), own=True),)
    assert {path.name: _mode(path) for path in keyring.folder.iterdir()} == {"machine.key": 0o600, "machine.pub": 0o600}
    # who was stopped between the halves left the private one
    (keyring.folder / "machine.pub").unlink()
    assert keyring.keys() == ()
    assert public(keyring.machine_key()) == public(first)
    assert keyring.name_of(public(first)) == MACHINE


def test_of_many_that_make_the_machines_key_at_once_all_get_the_same(tmp_path: Path) -> None:
    many = 12
    with ThreadPoolExecutor(many) as pool:
        for attempt in range(8):
            folder, start = tmp_path / str(attempt) / "keys", Barrier(many)

            def ask(folder: Path = folder, start: Barrier = start) -> bytes:
                start.wait()
                return public(Keyring.open(folder).machine_key())

            got = {done.result() for done in [pool.submit(ask) for _ in range(many)]}
            assert len(got) == 1
            (key,) = Keyring.open(folder).keys()
            assert {key.public} == got
            assert sorted(path.name for path in folder.iterdir()) == ["machine.key", "machine.pub"]


def test_a_machines_key_whose_halves_differ_is_refused(keyring: Keyring) -> None:
    keyring.machine_key()
    made = keyring.new("me")
    (keyring.folder / "machine.pub").write_text(made.line)
    with pytest.raises(KeyringError, match="are not halves of one key; remove machine"):
        keyring.machine_key()


def test_it_names_who_signed_a_plan(keyring: Keyring, tmp_path: Path) -> None:
    manifest = a_manifest((AERIAL,), (COVER,))
    path = tmp_path / "a.plan"
    write_plan(path, manifest, members_of(manifest))

    def named() -> str | None:
        with Plan.open(path) as plan:
            return keyring.trusted(plan)

    assert named() is None
    sign_plan(path, Ed25519PrivateKey.generate())
    keyring.new("bystander")
    assert named() is None
    keyring.new("me")
    sign_plan(path, keyring.private_key("me"))
    assert named() == "me"
    keyring.remove("me")
    assert named() is None
