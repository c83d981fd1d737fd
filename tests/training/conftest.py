from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders import make_prepared
from tests.reliability.kills import tiny_network


@pytest.fixture(scope="module")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("data")
    make_prepared(root, n=36, size=32)
    with tiny_network():
        yield root
