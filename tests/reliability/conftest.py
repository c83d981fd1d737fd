"""One data root for all runs of the tiny network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.reliability import kills


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A data root with the prepared set ``toy``; the network ``tiny`` is in the table meanwhile."""
    folder = tmp_path_factory.mktemp("reliability")
    with kills.tiny_network():
        kills.prepare(folder)
        yield folder
