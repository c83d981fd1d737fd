"""Archives are unpacked only if they behave."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from gcsam_med.datasets.archive import opened
from gcsam_med.errors import DataFaults, InputError
from tests.datasets import layouts


def zipped(folder: Path, target: Path) -> Path:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, path.relative_to(folder.parent))
    return target


def test_a_zip_opens_as_its_folder_and_leaves_nothing(tmp_path: Path) -> None:
    """Same files, same bytes; the temporary folder goes."""
    folder = layouts.busi(tmp_path / "source")
    archive = zipped(folder, tmp_path / "busi.zip")
    with opened(archive, tmp_path / "work") as root:
        for path in folder.rglob("*.png"):
            assert (root / path.relative_to(folder.parent)).read_bytes() == path.read_bytes()
    assert not any((tmp_path / "work").iterdir())


def test_a_tar_opens_as_its_folder(tmp_path: Path) -> None:
    """As CIFAR comes."""
    folder = layouts.cifar10_binary(tmp_path / "source")
    archive = tmp_path / "cifar.tar.gz"
    with tarfile.open(archive, "w:gz") as tape:
        tape.add(folder, folder.name)
    with opened(archive, tmp_path / "work") as root:
        assert (root / folder.name / "test_batch.bin").stat().st_size == 20 * 3073


def test_a_folder_is_given_as_it_is(tmp_path: Path) -> None:
    """Nothing to unpack."""
    with opened(tmp_path, tmp_path / "work") as root:
        assert root == tmp_path


@pytest.mark.parametrize(
    ("name", "reason"),
    [("../slip.png", "outside"), ("/etc/slip.png", "outside"), ("a\\..\\..\\slip.png", "outside")],
)
def test_members_that_lead_outside_are_refused(name: str, reason: str, tmp_path: Path) -> None:
    """zip-slip, in zips and tars; nothing is written."""
    archive = tmp_path / "x.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("good.png", b"x")
        file.writestr(name, b"x")
    tape = tmp_path / "x.tar.gz"
    with tarfile.open(tape, "w:gz") as file_:
        info = tarfile.TarInfo(name)
        info.size = 1
        file_.addfile(info, io.BytesIO(b"x"))
    for path in (archive, tape):
        with pytest.raises(DataFaults) as caught, opened(path, tmp_path / "work"):
            pass
        assert [f.reason for f in caught.value.faults] == [reason]
    assert not list(tmp_path.rglob("slip.png"))
    assert not any((tmp_path / "work").iterdir())


def test_links_and_bombs_are_refused(tmp_path: Path) -> None:
    """A symbolic link, a device in a tar, and 200 MB of zeros in 200 kB."""
    link = zipfile.ZipInfo("link.png")
    link.external_attr = 0o120777 << 16
    archive = tmp_path / "x.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(link, "/etc/passwd")
        with file.open("bomb.png", "w") as member:
            for _ in range(12):
                member.write(bytes(2**20))
    with pytest.raises(DataFaults) as caught, opened(archive, tmp_path / "work"):
        pass
    assert [f.reason for f in caught.value.faults] == ["link", "bomb"]
    tape = tmp_path / "x.tar"
    with tarfile.open(tape, "w") as file_:
        info = tarfile.TarInfo("pipe.png")
        info.type = tarfile.FIFOTYPE
        file_.addfile(info)
    with pytest.raises(DataFaults) as caught, opened(tape, tmp_path / "work"):
        pass
    assert [f.reason for f in caught.value.faults] == ["link"]


def test_damaged_archives_are_named(tmp_path: Path) -> None:
    """Text, cut-off, flipped bits, a wrong suffix."""
    good = zipped(layouts.busi(tmp_path / "source"), tmp_path / "good.zip").read_bytes()
    changed = bytearray(good)
    changed[200] ^= 0xFF
    contents = {
        "text.zip": b"not a zip",
        "cut.zip": good[: len(good) // 2],
        "flipped.zip": bytes(changed),
        "zip-named.tar.gz": good,
    }
    for name, content in contents.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(InputError, match="damaged"), opened(path, tmp_path / "work"):
            pass
