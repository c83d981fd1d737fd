"""Ids without a way back, and a key that only its owner reads."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

import pytest

from gcsam_med.errors import EnvironmentFault
from gcsam_med.preparation.privacy import identity_key, keyed_id


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
    expected = hmac.new(b"k", b"patient\0Doe^Jane", hashlib.sha256).hexdigest()[:16]
    assert keyed_id(b"k", "patient", "Doe^Jane") == "p" + expected
    assert len({keyed_id(k, kind, "x")[1:] for k in (b"k", b"l") for kind in ("case", "patient")}) == 4


def test_a_damaged_key_is_not_replaced_behind_your_back(tmp_path: Path) -> None:
    """New ids would no longer match the old ones."""
    identity_key(tmp_path)
    (tmp_path / "private" / "identity.key").write_text("not hex")
    with pytest.raises(EnvironmentFault, match="cannot be used"):
        identity_key(tmp_path)
