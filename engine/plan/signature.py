"""Who vouches for a plan: Ed25519 signatures over its manifest, in the member `signature`.

- The member holds 1 to 8 records of 96 bytes, 32 of the public key and 64 of the signature (RFC 8032), in the order of
  the keys and none twice: the same keys make the same bytes, whichever signed first.
- What is signed is `manifest.json` as it is stored, behind a prefix that no other use of a key shares. The manifest
  lists the hash of every other member, so that a signature covers the plan; it cannot list its own signatures, and
  `signature` is the one member that it does not name. Signing changes neither the manifest nor the plan's hash.
- Reading verifies every record. A signature is no plea: one that is wrong makes the whole file no plan, whoever else
  signed it, and so does a key for which anybody could sign.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..errors import PlanError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

__all__ = ["KEY_BYTES", "MAX_SIGNATURES", "SIGNATURE", "check_signatures", "sign_manifest", "weakness_of"]

SIGNATURE = "signature"
MAX_SIGNATURES = 8
KEY_BYTES = 32

_SIGNATURE_BYTES = 64
_RECORD_BYTES = KEY_BYTES + _SIGNATURE_BYTES
_PREFIX = b"uperfuse plan signature 1\0"

_PRIME = 2**255 - 19
# y of the curve's points whose order divides 8: multiples of such a key vanish, and with them what a signature proves
_ORDER_8 = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
_WEAK = (0, 1, _PRIME - 1, _ORDER_8, _PRIME - _ORDER_8)


def sign_manifest(manifest: bytes, *, keys: Iterable[Ed25519PrivateKey], others: bytes = b"") -> bytes:
    """Content of the member `signature`.

    Args:
        manifest: `manifest.json` as it is stored.
        keys: private keys that sign.
        others: a member whose signatures stay, as `check_signatures` accepted it.

    Raises:
        PlanError: more than `MAX_SIGNATURES` keys.
    """
    records = dict(_split(others))
    for key in keys:
        records[key.public_key().public_bytes_raw()] = key.sign(_PREFIX + manifest)
    if len(records) > MAX_SIGNATURES:
        raise PlanError(f"{len(records)} signatures, a plan holds at most {MAX_SIGNATURES}; sign with fewer keys")
    return b"".join(key + signature for key, signature in sorted(records.items()))


def check_signatures(content: memoryview | bytes, *, manifest: bytes) -> tuple[bytes, ...]:
    """Verify the member `signature`.

    Args:
        content: of the member; its size is checked before a byte is read.
        manifest: `manifest.json` as it is stored.

    Returns:
        The public keys, 32 bytes each, rising.

    Raises:
        PlanError: a rule of the form is broken, or a signature is not that of the key over this manifest.
    """
    size = len(content)
    if size % _RECORD_BYTES or not _RECORD_BYTES <= size <= MAX_SIGNATURES * _RECORD_BYTES:
        raise PlanError(
            f"member {SIGNATURE} has {size} bytes, expected 1 to {MAX_SIGNATURES} records of {_RECORD_BYTES}"
        )
    # 50 ms to import: not until a plan is signed
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    before = b""
    keys: list[bytes] = []
    for key, signature in _split(bytes(content)):
        if key == before:
            raise PlanError(f"two signatures by key {key.hex()[:16]}, expected one of each")
        if key < before:
            raise PlanError("signatures out of order, expected rising public keys")
        if (weakness := weakness_of(key)) is not None:
            raise PlanError(f"the signature by key {key.hex()[:16]} proves nothing: {weakness}")
        try:
            Ed25519PublicKey.from_public_bytes(key).verify(signature, _PREFIX + manifest)
        except InvalidSignature:
            raise PlanError(f"wrong signature: that by key {key.hex()[:16]} is not over this manifest") from None
        keys.append(key)
        before = key
    return tuple(keys)


def weakness_of(key: bytes) -> str | None:
    """Why 32 bytes are no public key that could prove anything; None where nothing is known against them."""
    y = int.from_bytes(key, "little") & (2**255 - 1)
    if y >= _PRIME:
        return "the key is written in a form that no program gives"
    if y in _WEAK:
        return "anybody can sign for that key"
    return None


def _split(content: bytes) -> list[tuple[bytes, bytes]]:
    records = (content[at : at + _RECORD_BYTES] for at in range(0, len(content), _RECORD_BYTES))
    return [(record[:KEY_BYTES], record[KEY_BYTES:]) for record in records]
