"""Names that tell nothing: ids of private sources are keyed hashes, and the key lies apart from the data."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from pathlib import Path

from gcsam_med.datasets.case import is_placeholder
from gcsam_med.errors import EnvironmentFault
from gcsam_med.files import held, write_durably
from gcsam_med.reading import read_plain

KEY_FOLDER, KEY_FILE = "private", "identity.key"
MOST_KEY_BYTES = 1000
KEY_BYTES = 32
DIGITS = 16  # hex digits of an id: 64 bits


def identity_key(data_root: Path) -> bytes:
    """Read the 32-byte secret key of a data root, or make one (mode 0600, in a folder of mode 0700).

    With the key an id can be recomputed from a name, so it stays on this machine; without it an id says
    nothing. One key a data root: a patient has the same id in all its data sets.

    Raises
    ------
    EnvironmentFault
        If it cannot be read or written, or is not whole.
    """
    path = data_root / KEY_FOLDER / KEY_FILE
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with held(path.parent / ".lock"):  # of two first prepares at once, one makes the key
            if not path.exists():
                write_durably(path, (secrets.token_hex(KEY_BYTES) + "\n").encode())
        path.chmod(0o600)
        key = bytes.fromhex(read_plain(path, MOST_KEY_BYTES, follow=False).decode("ascii"))
        if len(key) != KEY_BYTES:
            raise ValueError(f"{len(key)} bytes instead of {KEY_BYTES}")
        return key
    except (OSError, ValueError) as error:
        raise EnvironmentFault(
            f"The identity key {path} cannot be used ({type(error).__name__}).",
            "Restore it, or remove it: data sets prepared anew then get new ids.",
        ) from None


def keyed_id(key: bytes, kind: str, name: str) -> str:
    """An id for `name` without a way back: first letter of `kind` and 16 hex digits of HMAC-SHA-256.

    `kind` is ``case``, ``patient``, ...; ids of different kinds have nothing in common.
    """
    if len(key) != KEY_BYTES:
        raise ValueError("not a key of identity_key()")
    digest = hmac.new(key, f"{kind}\0{name}".encode(errors="surrogateescape"), hashlib.sha256).hexdigest()
    return f"{kind[0]}{digest[:DIGITS]}"


def patient_id(key: bytes | None, name: str) -> str:
    """The keyed id of a patient, or nothing for what is nobody's id (`PLACEHOLDERS`).

    Without a key, for published sets, anyone who has the set can make the same id.
    """
    if is_placeholder(name):
        return ""
    if key is None:
        return "p" + hashlib.sha256(f"patient\0{name}".encode(errors="surrogateescape")).hexdigest()[:DIGITS]
    return keyed_id(key, "patient", name)
