"""Names that tell nothing: ids of private sources are keyed hashes, and the key lies apart from the data."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path

from gcsam_med.errors import EnvironmentFault

KEY_FOLDER, KEY_FILE = "private", "identity.key"
DIGITS = 16  # hex digits of an id: 64 bits


def identity_key(data_root: Path) -> bytes:
    """Read the secret key of a data root, or make one (mode 0600, in a folder of mode 0700).

    With the key an id can be recomputed from a name, so it stays on this machine; without it an id says
    nothing. One key a data root: a patient has the same id in all its data sets.

    Raises
    ------
    EnvironmentFault
        If it cannot be read or written.
    """
    path = data_root / KEY_FOLDER / KEY_FILE
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            path.chmod(0o600)
            return bytes.fromhex(path.read_text(encoding="ascii").strip())
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            key = secrets.token_bytes(32)
            file.write(key.hex() + "\n")
        return key
    except (OSError, ValueError) as error:
        raise EnvironmentFault(
            f"The identity key {path} cannot be used ({type(error).__name__}).",
            "Restore it, or remove it: data sets prepared anew then get new ids.",
        ) from None


def keyed_id(key: bytes, kind: str, name: str) -> str:
    """An id for `name`, without a way back.

    Parameters
    ----------
    key : bytes
        From `identity_key`.
    kind : str
        ``case`` or ``patient``; ids of different kinds have nothing in common.
    name : str
        What must not be seen.

    Returns
    -------
    str
        First letter of `kind` and 16 hex digits of HMAC-SHA-256.
    """
    digest = hmac.new(key, f"{kind}\0{name}".encode(errors="surrogateescape"), hashlib.sha256).hexdigest()
    return f"{kind[0]}{digest[:DIGITS]}"
