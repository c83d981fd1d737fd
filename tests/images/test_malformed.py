"""Malformed files are named with a reason, one and all, and never take the process down."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image, ImageFile

from gcsam_med.config import PrepareOptions
from gcsam_med.errors import DataFaults
from gcsam_med.images import ImageFault, read_image, read_mask
from gcsam_med.preparation import prepare
from tests.images.malformed import encoded, picture, zoo

ZOO = zoo()


@pytest.fixture(autouse=True)
def _another_library_asks_for_cut_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """WeasyPrint does, for the whole process; Pillow would then decode what is there of a cut image."""
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)


def test_zoo_is_large_enough() -> None:
    """The promise is at least 60 files."""
    assert len(ZOO) >= 60


@pytest.mark.parametrize("name", sorted(ZOO))
def test_every_malformed_file_has_a_fitting_reason(name: str, tmp_path: Path) -> None:
    """Oracle: what each file was made to be (`malformed.py`)."""
    content, reasons = ZOO[name]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ImageFault) as caught:
        read_image(path)
    assert caught.value.reason in reasons
    assert str(tmp_path) not in str(caught.value)
    assert "Secret" not in str(caught.value)


@pytest.mark.parametrize("name", sorted(ZOO))
def test_no_malformed_file_is_a_mask(name: str, tmp_path: Path) -> None:
    """Masks come through the same doors as images, DICOM apart."""
    path = tmp_path / name
    path.write_bytes(ZOO[name][0])
    with pytest.raises(ImageFault):
        read_mask(path)


def test_pipes_folders_and_missing_files_are_named(tmp_path: Path) -> None:
    """Opening a FIFO must not wait for a writer."""
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "dangling.png").symlink_to(tmp_path / "nowhere")
    expected = {"pipe.png": "not-a-file", "folder.png": "not-a-file", "dangling.png": "missing"}
    for name, reason in expected.items():
        with pytest.raises(ImageFault) as caught:
            read_image(tmp_path / name)
        assert caught.value.reason == reason
    with pytest.raises(ImageFault, match="not valid"):
        read_image(tmp_path / "nul\0.png")


def test_prepare_lists_all_of_them_at_once_and_changes_nothing(tmp_path: Path) -> None:
    """One pass over a folder that holds the whole zoo: every file is in the table with its reason."""
    source = tmp_path / "source"
    for label in ("benign", "malignant"):
        (source / label).mkdir(parents=True)
    for name, (content, _) in ZOO.items():
        (source / "benign" / name).write_bytes(content)
    outside = tmp_path / "outside.png"
    outside.write_bytes(encoded(Image.fromarray(picture()), "PNG"))
    (source / "benign" / "link.png").symlink_to(outside)
    os.mkfifo(source / "benign" / "pipe.png")
    for i in range(14):
        good = encoded(Image.fromarray(picture(seed=i)), "PNG")
        (source / ("benign", "malignant")[i % 2] / f"good{i}.png").write_bytes(good)
    data_root = tmp_path / "data"
    with pytest.raises(DataFaults) as caught:
        prepare("folder", source, data_root)
    found = {Path(f.path).name: f.reason for f in caught.value.faults}
    for name, (_, reasons) in ZOO.items():
        assert found[name] in reasons, name
    assert (found["link.png"], found["pipe.png"]) == ("outside", "not-a-file")
    assert not any((data_root / "prepared").iterdir())
    outcome = prepare("folder", source, data_root, options=PrepareOptions(skip_bad=True, folds=3))
    assert len(outcome.dataset) == 14
    assert len(outcome.faults) == len(ZOO) + 2
    assert outcome.audit["summary"]["quarantined"] == len(ZOO) + 2
