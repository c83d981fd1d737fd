"""Source folders and archives: bombs, links, paths out, and names that are not only names."""

from __future__ import annotations

import io
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator

from PIL import Image

from tests.images.malformed import dicom, encoded, picture, zoo
from tests.reliability.hostile.project import (
    ESCAPE,
    FORMULA,
    SCRIPT,
    Case,
    Project,
    codes_for,
    link_at,
    pipe_at,
    sparse_at,
    text_at,
)

IMAGE = encoded(Image.fromarray(picture(40, 48)), "PNG")


def _archive(fill: Callable[[zipfile.ZipFile], object]) -> Callable[[Project], None]:
    """Make the source an archive."""

    def spoil(p: Project) -> None:
        shutil.rmtree(p.source)
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
            fill(archive)
        _as_archive(p, content.getvalue())

    return spoil


def _as_archive(p: Project, content: bytes, suffix: str = ".zip") -> list[str]:
    shutil.rmtree(p.source, ignore_errors=True)
    path = p.source.with_suffix(suffix)
    path.write_bytes(content)
    return []


def _zip_link(archive: zipfile.ZipFile) -> None:
    item = zipfile.ZipInfo("benign/link.png")
    item.external_attr = (stat.S_IFLNK | 0o777) << 16
    archive.writestr(item, "/etc/passwd")


def _tar(fill: Callable[[tarfile.TarFile], object]) -> Callable[[Project], list[str]]:
    def spoil(p: Project) -> list[str]:
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w:gz") as tape:
            fill(tape)
        return _as_archive(p, content.getvalue(), ".tar.gz")

    return spoil


def _device(tape: tarfile.TarFile) -> None:
    item = tarfile.TarInfo("benign/zero.png")
    item.type, item.devmajor, item.devminor = tarfile.CHRTYPE, 1, 5
    tape.addfile(item)


def _hard_link(tape: tarfile.TarFile) -> None:
    item = tarfile.TarInfo("benign/shadow.png")
    item.type, item.linkname = tarfile.LNKTYPE, "/etc/shadow"
    tape.addfile(item)


def _encrypted(p: Project) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("benign/a.png", IMAGE)
    data = bytearray(content.getvalue())
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + at] |= 1
    _as_archive(p, bytes(data))


def archives() -> Iterator[tuple[str, Case]]:
    zeros = bytes(50 * 2**20)
    for name, spoil in {
        "zip: a path out": _archive(lambda a: a.writestr(f"{ESCAPE}.png", IMAGE)),
        "zip: an absolute path": _archive(lambda a: a.writestr("/tmp/escaped-from-gcsam-med.png", IMAGE)),
        "zip: a path out with backslashes": _archive(lambda a: a.writestr("..\\..\\..\\escaped.png", IMAGE)),
        "zip: a link": _archive(_zip_link),
        "zip: a bomb": _archive(lambda a: a.writestr("benign/bomb.png", zeros)),
        "zip: encrypted": _encrypted,
        "zip: cut short": lambda p: _as_archive(p, b"PK\x03\x04" + bytes(50)),
        "zip: empty": lambda p: _as_archive(p, b""),
        "zip: random bytes": lambda p: _as_archive(p, os.urandom(2000)),
        "zip: no image": _archive(lambda a: a.writestr("readme.txt", "none")),
        "zip: a zip in it": _archive(lambda a: a.writestr("benign/inner.zip", b"PK\x05\x06" + bytes(18))),
        "tar: a device": _tar(_device),
        "tar: a hard link": _tar(_hard_link),
        "tar: a stream of zeros": lambda p: _as_archive(p, zlib.compress(zeros, wbits=31), ".tar.gz"),
        "tar: cut short": lambda p: _as_archive(p, b"\x1f\x8b\x08" + bytes(20), ".tar.gz"),
    }.items():
        codes = codes_for("prepare", 2)
        if name.startswith("zip"):
            # predict unpacks nothing to disk, so a member's path leads nowhere and its image is good.
            codes = codes | codes_for("predict", 0 if "path" in name else 2)
        yield name, Case(spoil, codes)


def _named(name: str | bytes) -> Callable[[Project], None]:
    """A sound image under a hostile name."""

    def spoil(p: Project) -> None:
        folder = os.fsencode(p.source / "benign")
        with open(folder + b"/" + os.fsencode(name), "wb") as file:  # noqa: PTH123
            file.write(encoded(Image.fromarray(picture(40, 48, seed=77)), "PNG"))

    return spoil


def _class_named(name: str) -> Callable[[Project], None]:
    def spoil(p: Project) -> None:
        (p.source / "malignant").rename(p.source / name)

    return spoil


def _whole_zoo(p: Project) -> None:
    for name, (content, _) in zoo().items():
        (p.source / "benign" / name).write_bytes(content)


def images() -> Iterator[tuple[str, Case]]:
    # tests/images/test_malformed.py prepares them.
    yield f"{len(zoo())} malformed images at once", Case(_whole_zoo, codes_for("predict", 2))
    yield (
        "an image is a pipe",
        Case(
            pipe_at(lambda p: p.source / "benign" / "pipe.png"),
            codes_for("prepare", 2) | codes_for("predict", 0, 2),
        ),
    )
    yield (
        "an image is a link to /etc/passwd",
        Case(
            link_at(lambda p: p.source / "benign" / "l.png", "/etc/passwd"),
            codes_for("prepare", 2) | codes_for("predict", 2),
        ),
    )
    yield (
        "an image claims 4 TiB",
        Case(sparse_at(lambda p: p.source / "benign" / "s.png"), codes_for("prepare predict", 2)),
    )
    for name, text in {
        "a line end": "a\nb.png",
        "a terminal's codes": "\x1b[2Ja\x07.png",
        "markup": "[bold red]a[bold].png",
        "bytes that are no text": b"a\xff\xfe.png",
        "a leading dash": "-rf.png",
        "a formula": "=cmd|'C'!A0.png",
        "HTML": "<img src=x onerror=alert(1)>.png",
        "text from right to left": "a\u202egnp.png",
        "240 characters": "x" * 240 + ".png",
        "a pattern": "*?[a].png",
    }.items():
        yield f"file name: {name}", Case(_named(text), codes_for("prepare predict", 0, 2))
    for name, text in {
        "a formula": FORMULA.replace("/", "_"),
        "HTML": "<b onclick=x>c",
        "a terminal's codes": "\x1b[2Jx",
    }.items():
        yield f"class name: {name}", Case(_class_named(text), codes_for("prepare", 0, 2))
    header = dicom(
        picture().tobytes(), PatientName=SCRIPT, Manufacturer=FORMULA, ManufacturerModelName=SCRIPT[:60]
    )
    yield (
        "DICOM tags of scripts and formulas",
        Case(text_at(lambda p: p.source / "benign" / "a.dcm", header), codes_for("prepare predict", 0)),
    )
