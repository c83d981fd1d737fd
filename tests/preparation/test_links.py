"""A link in a source folder may not bring in a file from elsewhere."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from gcsam_med.datasets.demo import write_demo
from gcsam_med.errors import DataFaults
from gcsam_med.preparation import prepare


@pytest.mark.parametrize("name", ["benign (1).png", "benign (1)_mask.png"])
def test_a_link_out_of_an_official_layout_is_a_fault(name: str, tmp_path: Path) -> None:
    write_demo(tmp_path, 9, 0)
    source = tmp_path / "Dataset_BUSI_with_GT"
    secret = tmp_path / "elsewhere.png"
    shutil.move(source / "benign" / name, secret)
    (source / "benign" / name).symlink_to(secret)
    with pytest.raises(DataFaults) as refused:
        prepare("busi", source, tmp_path / "data")
    assert [(f.path, f.reason) for f in refused.value.faults] == [(f"benign/{name}", "outside")]
