"""The user's keyring: whose signatures on plans are believed, and with what this machine signs.

    $XDG_CONFIG_HOME/uperfuse/keys/<name>.pub    one line, `ed25519 <64 hexadecimal digits> <name>`
    $XDG_CONFIG_HOME/uperfuse/keys/<name>.key    its private half where it is the user's own: PKCS8 in PEM

`~/.config` stands in for the variable. Every public key in the folder is believed; there is no list beside it. What
others could have written or, of a private key, read is refused, and so is what is damaged: the keyring is sound as a
whole, or not believed at all.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import KeyringError
from .key_files import check_name, create_file, make_folder, parse_line, public_line, read_file, usable_folder
from .plan.plan import Plan
from .plan.signature import weakness_of

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

__all__ = ["MACHINE", "Key", "Keyring"]

MACHINE = "machine"
"""Name of the key that `uperfuse build` signs with: made on first use, without a passphrase, handed to nobody."""

_LONGEST_PASSPHRASE = 200


@dataclass(frozen=True)
class Key:
    """A public key under its name.

    Attributes:
        name: in this keyring.
        public: Ed25519, 32 bytes.
        own: the private half lies in the keyring, too.
    """

    name: str
    public: bytes
    own: bool

    @property
    def line(self) -> str:
        """What `uperfuse keys add` takes on another machine: one line of text."""
        return public_line(self.public, self.name)


class Keyring:
    """Keys in a folder; nothing is remembered, so that what is added or removed counts at once.

    Attributes:
        folder: where the keys lie; it is made with the first key.
    """

    def __init__(self, folder: Path) -> None:
        """Use `Keyring.open`."""
        self.folder = folder

    @classmethod
    def open(cls, folder: str | os.PathLike[str] | None = None) -> Keyring:
        """Open a keyring, which may be empty.

        Args:
            folder: where the keys lie; None for the user's own.

        Raises:
            KeyringError: the user has neither a home nor a usable XDG_CONFIG_HOME.
        """
        if folder is not None:
            return cls(Path(folder))
        root = os.environ.get("XDG_CONFIG_HOME")
        if root and not os.path.isabs(root):
            raise KeyringError(f"XDG_CONFIG_HOME is {root!a}, expected an absolute path; unset or correct it")
        try:
            return cls((Path(root) if root else Path.home() / ".config") / "uperfuse" / "keys")
        except RuntimeError:
            raise KeyringError("the user has no home, and so no keyring; set XDG_CONFIG_HOME to a folder") from None

    def keys(self) -> tuple[Key, ...]:
        """Every key, by name.

        Raises:
            KeyringError: a file is damaged, or others may write it.
        """
        try:
            if not usable_folder(self.folder):
                return ()
            names = sorted(path.name for path in self.folder.iterdir())
            found = []
            for name in (name.removesuffix(".pub") for name in names if name.endswith(".pub")):
                with suppress(FileNotFoundError):  # removed since the folder was listed
                    found.append(self._read(check_name(name)))
        except OSError as error:
            raise _unreadable(self.folder, error) from error
        return tuple(found)

    def key(self, name: str) -> Key:
        """The key of that name.

        Raises:
            KeyringError: there is none, or as `keys`.
        """
        for key in self.keys():
            if key.name == name:
                return key
        known = ", ".join(key.name for key in self.keys()) or "none yet"
        raise KeyringError(f"no key {name[:80]!a} in {self.folder}; there are: {known}")

    def name_of(self, public: bytes) -> str | None:
        """Name of a public key; None where the keyring does not have it."""
        return next((key.name for key in self.keys() if key.public == public), None)

    def owns(self, name: str) -> bool:
        """Whether a private half of that name lies here, sound or not."""
        return self._path(check_name(name), ".key").exists()

    def trusted(self, plan: Plan) -> str | None:
        """Name of a key that signed a plan; None where nobody did whom the keyring knows."""
        names = {key.public: key.name for key in self.keys()}
        return next((names[public] for public in plan.signed_by if public in names), None)

    def new(self, name: str, *, passphrase: str | None = None) -> Key:
        """Make a key of the user's own.

        Args:
            name: of the key.
            passphrase: without which the private half cannot be used; None for none.

        Raises:
            KeyringError: the name is taken or no name, the passphrase is none, or the key cannot be written.
        """
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        self._check_free(name)
        if passphrase is not None and not 1 <= len(passphrase) <= _LONGEST_PASSPHRASE:
            raise KeyringError(
                f"passphrase of {len(passphrase)} characters, expected 1 to {_LONGEST_PASSPHRASE}; choose another"
            )
        return self._store(name, Ed25519PrivateKey.generate(), passphrase=passphrase)

    def add(self, source: str | os.PathLike[str], *, name: str | None = None) -> Key:
        """Believe somebody's signatures from now on.

        Args:
            source: file with the public key, as `uperfuse keys show` prints it.
            name: in this keyring; None for the one in the file.

        Raises:
            KeyringError: the file holds no public key, a key that proves nothing, or one that is there already.
        """
        try:
            with open(source, "rb") as file:
                public, said = parse_line(file.read(1 << 16), what=str(source))
        except (OSError, ValueError) as error:
            raise _unreadable(Path(source), error) from error
        weakness = weakness_of(public)
        if weakness is not None:
            raise KeyringError(f"{source} holds a key that proves nothing: {weakness}; ask its owner for another")
        name = name or said
        if name is None:
            raise KeyringError(f"{source} does not say whose key it is; give it a name")
        self._check_free(name)
        known = self.name_of(public)
        if known is not None:
            raise KeyringError(f"{source} holds the key that is here already as {known}; remove that one first")
        try:
            self._create(name, ".pub", public_line(public, name).encode())
        except FileExistsError:
            raise _taken(name, self.folder) from None
        return Key(name, public, own=False)

    def remove(self, name: str) -> None:
        """Believe a key no more; its private half, where it is here, is gone for good.

        Raises:
            KeyringError: there is none of that name, or it cannot be removed.
        """
        files = [self._path(check_name(name), suffix) for suffix in (".pub", ".key")]
        if not any(file.exists() for file in files):
            self.key(name)
        try:
            for file in files:
                file.unlink(missing_ok=True)
        except OSError as error:
            raise _unwritable(self.folder, error) from error

    def private_key(self, name: str, *, ask: Callable[[], str] | None = None) -> Ed25519PrivateKey:
        """The private half of one of the user's own keys.

        Args:
            name: of the key.
            ask: gives the passphrase, where the key has one.

        Raises:
            KeyringError: the private half is not here, damaged, readable by others, or the passphrase is wrong.
        """
        key = self.key(name)
        if not key.own:
            raise KeyringError(f"only the public half of {name} is in {self.folder}; sign with a key of your own")
        private = self._load(name, ask=ask)
        if private.public_key().public_bytes_raw() != key.public:
            raise KeyringError(f"{name}.key and {name}.pub in {self.folder} are not halves of one key; remove {name}")
        return private

    def machine_key(self) -> Ed25519PrivateKey:
        """The private half of this machine's own key, made where there is none yet.

        Of programs that ask at once, one makes the key and all get the same.

        Raises:
            KeyringError: it is damaged, readable by others, or cannot be made.
        """
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        path = self._path(MACHINE, ".key")
        try:
            if not usable_folder(self.folder) or not path.exists():
                with suppress(FileExistsError):
                    self._create(MACHINE, ".key", _pem(Ed25519PrivateKey.generate(), None))
            private = self._load(MACHINE, ask=None)
            public = private.public_key().public_bytes_raw()
            # who was stopped between the halves, or is overtaken there, finds the public one missing
            with suppress(FileExistsError):
                if not self._path(MACHINE, ".pub").exists():
                    self._create(MACHINE, ".pub", public_line(public, MACHINE).encode())
        except OSError as error:
            raise _unreadable(path, error) from error
        return self.private_key(MACHINE)

    def _store(self, name: str, private: Ed25519PrivateKey, *, passphrase: str | None) -> Key:
        public = private.public_key().public_bytes_raw()
        try:
            self._create(name, ".key", _pem(private, passphrase))
            self._create(name, ".pub", public_line(public, name).encode())
        except FileExistsError:
            raise _taken(name, self.folder) from None
        return Key(name, public, own=True)

    def _create(self, name: str, suffix: str, content: bytes) -> None:
        """Make one file; FileExistsError where somebody else just did."""
        try:
            make_folder(self.folder)
        except OSError as error:
            raise _unwritable(self.folder, error) from error
        path = self._path(name, suffix)
        try:
            create_file(path, content)
        except FileExistsError:
            raise
        except OSError as error:
            raise _unwritable(path, error) from error

    def _check_free(self, name: str) -> None:
        check_name(name)
        if name == MACHINE:
            raise KeyringError(f"{MACHINE} is the name of this machine's own key, which makes itself; choose another")
        if any(self._path(name, suffix).exists() for suffix in (".pub", ".key")):
            raise _taken(name, self.folder)

    def _read(self, name: str) -> Key:
        path = self._path(name, ".pub")
        public, _ = parse_line(read_file(path, secret=False), what=str(path))
        weakness = weakness_of(public)
        if weakness is not None:
            raise KeyringError(f"{path} proves nothing: {weakness}; remove it")
        return Key(name, public, own=self._path(name, ".key").exists())

    def _load(self, name: str, *, ask: Callable[[], str] | None) -> Ed25519PrivateKey:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        path = self._path(name, ".key")
        try:
            content = read_file(path, secret=True)
        except OSError as error:
            raise _unreadable(path, error) from error
        locked = b"ENCRYPTED PRIVATE KEY" in content
        if locked and ask is None:
            raise KeyringError(f"{path} has a passphrase, and there is nobody to ask; sign with `uperfuse sign --key`")
        try:
            private = load_pem_private_key(content, ask().encode() if locked and ask is not None else None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            wrong = "the passphrase is wrong, or the file is damaged" if locked else "the file is damaged"
            raise KeyringError(f"{path} cannot be used: {wrong}; give the right one, or remove {name}") from None
        if not isinstance(private, Ed25519PrivateKey):
            raise KeyringError(f"{path} holds a key of another kind, expected Ed25519; remove {name}")
        return private

    def _path(self, name: str, suffix: str) -> Path:
        return self.folder / f"{name}{suffix}"


def _pem(private: Ed25519PrivateKey, passphrase: str | None) -> bytes:
    from cryptography.hazmat.primitives import serialization

    lock: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase is not None:
        lock = serialization.BestAvailableEncryption(passphrase.encode())
    return private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock)


def _taken(name: str, folder: Path) -> KeyringError:
    return KeyringError(f"{name} is in {folder} already; choose another name, or remove it first")


def _unwritable(path: Path, error: OSError) -> KeyringError:
    return KeyringError(f"{str(path)!r} cannot be written: {error.strerror}; check its permissions and the space left")


def _unreadable(path: Path, error: OSError | ValueError) -> KeyringError:
    said = error.strerror if isinstance(error, OSError) else str(error)
    return KeyringError(f"{str(path)!r} cannot be read: {said}; check the path and its permissions")
