"""Ids without a way back, and a key that only its owner reads."""

from __future__ import annotations

import hashlib
import hmac
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gcsam_med.errors import EnvironmentFault
from gcsam_med.preparation.privacy import identity_key, keyed_id

KEY = bytes(range(32))


def test_the_key_is_made_once_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    """Mode 0600 in a folder of mode 0700, also after someone opened it up."""
    key = identity_key(tmp_path)
    path = tmp_path / "private" / "identity.key"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    path.chmod(0o644)
    assert identity_key(tmp_path) == key
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(key) == 32
    assert identity_key(tmp_path / "elsewhere") != key


def test_ids_are_keyed_hashes() -> None:
    """Oracle: HMAC-SHA-256 of the standard library; another key or kind gives another id."""
    expected = hmac.new(KEY, b"patient\0Doe^Jane", hashlib.sha256).hexdigest()[:16]
    assert keyed_id(KEY, "patient", "Doe^Jane") == "p" + expected
    assert len({keyed_id(k, kind, "x")[1:] for k in (KEY, bytes(32)) for kind in ("case", "patient")}) == 4


@pytest.mark.parametrize("content", ["not hex", "", "00", "00" * 31, "\n"])
def test_a_damaged_key_is_not_replaced_behind_your_back(tmp_path: Path, content: str) -> None:
    """New ids would no longer match the old ones; an empty or short key would make ids that tell names."""
    identity_key(tmp_path)
    (tmp_path / "private" / "identity.key").write_text(content)
    with pytest.raises(EnvironmentFault, match="cannot be used"):
        identity_key(tmp_path)
    with pytest.raises(ValueError, match="not a key"):
        keyed_id(b"", "case", "x")


def test_two_first_prepares_at_once_have_one_key(tmp_path: Path) -> None:
    """Oracle: all threads read the same 32 bytes."""
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(lambda _: identity_key(tmp_path), range(32)))) == 1
