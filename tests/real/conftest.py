"""Where the sample of real images lies, beside the project; tests skip where it is absent."""

from __future__ import annotations

from pathlib import Path

import pytest

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real sample images."""
    if not DATA.is_dir():
        pytest.skip("the sample of real images is not beside the project")
    return DATA
