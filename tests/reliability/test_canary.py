"""A name that stands in a source must not come out of any command, but to the person who gave it.

Every identifying DICOM tag, file and folder name, PNG text and EXIF field of two sources holds a token of its
own. The sources go through all commands, with errors provoked, and every byte that is written or said is
searched for the tokens' common mark.
"""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import ExifTags, Image, PngImagePlugin
from pydicom import Dataset
from pydicom.datadict import DicomDictionary, keyword_for_tag
from pydicom.sequence import Sequence

from gcsam_med.cli import COMMANDS
from gcsam_med.cli import run as command
from gcsam_med.inference.export.export import FORMATS
from tests.builders import picture
from tests.images.malformed import dicom
from tests.reliability.kills import tiny_network
from tests.view.conftest import opened

pytestmark = pytest.mark.figures

MARK = "zqxnamed"
CASES = 44
# Tags that are read on purpose (acquisition, not identity), that say how pixels are stored, or that belong to
# the file itself.
TECHNICAL = {
    "Manufacturer", "ManufacturerModelName", "PhotometricInterpretation", "Modality", "BodyPartExamined",
    "ViewPosition", "ImageLaterality", "Laterality", "BurnedInAnnotation", "SpecificCharacterSet",
    "LossyImageCompression", "PresentationLUTShape", "TimezoneOffsetFromUTC",
}  # fmt: skip
TEXTUAL = {"PN", "LO", "SH", "ST", "LT", "UT", "UC"}


def token(place: str) -> str:
    """A name that stands nowhere else."""
    return f"{MARK}{place.lower()}"


def identifying_tags() -> dict[str, str]:
    """Every text element of the standard's groups 0008 to 0040 that is no technical one."""
    found = {}
    for tag, (vr, multiplicity, _, retired, keyword) in DicomDictionary.items():
        wanted = vr in TEXTUAL and 0x0008 <= tag >> 16 <= 0x0040 and not retired and multiplicity == "1"
        if wanted and keyword and keyword not in TECHNICAL:
            found[keyword] = token(f"{tag:08x}")
    return found


def dicom_file(number: int, label: str, **more: object) -> bytes:
    """One file whose header is full of names."""
    tags: dict[str, object] = dict(identifying_tags())
    tags |= {"PatientID": token(f"patient{number // 2}"), "PatientName": token(f"name{number // 2}") + "^A"}
    nested = Dataset()
    nested.PatientName = token("nested")
    nested.TextValue = token("nestedtext")
    tags["RequestAttributesSequence"] = Sequence([nested])
    tags |= {"StudyInstanceUID": "1.2.3.4.5", "Manufacturer": "ACME", "PixelSpacing": [0.3, 0.3], **more}
    rng = np.random.default_rng(number)
    image, _ = picture(label, 48, 64, rng)
    return dicom(image.tobytes(), **tags)


def image_file(path: Path, image: np.ndarray) -> None:
    """A PNG with texts, or a JPEG with EXIF."""
    picture_ = Image.fromarray(image)
    if path.suffix == ".png":
        texts = PngImagePlugin.PngInfo()
        texts.add_text("Author", token("pngtext"))
        texts.add_text("Comment", token("pngztext"), zip=True)
        texts.add_itxt("XML:com.adobe.xmp", token("pngxmp"))
        picture_.save(path, pnginfo=texts)
        return
    exif = Image.Exif()
    for number, field in enumerate(("Artist", "Copyright", "ImageDescription", "Make", "Model", "XPAuthor")):
        exif[getattr(ExifTags.Base, field)] = token(f"exif{number}")
    picture_.save(path, exif=exif, comment=token("jpegcomment").encode(), quality=95)


class Sources(NamedTuple):
    """Where the sources lie."""

    table: Path
    folder: Path
    new: Path


def make_sources(root: Path) -> Sources:
    """A table of DICOM files, a folder of PNG and JPEG files with masks, and a folder of new images."""
    table, folder, new = (root / token(f"source{n}") for n in ("table", "folder", "new"))
    rows = ["image,label,group,device,referrer"]
    for number in range(CASES):
        label = ("benign", "malignant")[number % 2]
        inside = f"{token(f'dir{number // 2}')}/{token(f'file{number}')}.dcm"
        (table / inside).parent.mkdir(parents=True, exist_ok=True)
        (table / inside).write_bytes(dicom_file(number, label))
        rows.append(
            f"{inside},{label},{token(f'group{number // 2}')},{'AB'[number % 2]},{token(f'ref{number}')}"
        )
        rng = np.random.default_rng(number)
        image, lesion = picture(label, 48, 64, rng)
        place = folder / label / "images" / token(f"folder{number // 2}")
        place.mkdir(parents=True, exist_ok=True)
        stem = token(f"image{number}")
        image_file(place / f"{stem}{('.png', '.jpg')[number % 2]}", image)
        masks = folder / label / "masks"
        masks.mkdir(exist_ok=True)
        Image.fromarray(lesion.astype(np.uint8) * 255).save(masks / f"{stem}.png")
    (table / "table.csv").write_text("\n".join(rows) + "\n")
    new.mkdir()
    (new / "one.dcm").write_bytes(dicom_file(99, "malignant"))
    (new / "bad.dcm").write_bytes(dicom_file(98, "malignant")[:900])
    image_file(new / "two.png", picture("benign", 48, 64, np.random.default_rng(7))[0])
    image_file(new / "three.jpg", picture("benign", 48, 64, np.random.default_rng(8))[0])
    return Sources(table, folder, new)


class Said(NamedTuple):
    """What a command gave."""

    code: int
    text: str


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder without names in its path."""
    monkeypatch.chdir(tmp_path)
    with tiny_network():
        yield tmp_path


def written(root: Path, given: Path | None = None, clean: set[object] | None = None) -> list[str]:
    """Every place below `root` that holds a token in a file's content or name, but for a path given.

    Archives are looked at member by member. With `given`, what predict wrote for it: its tables name the
    inputs in the words of the person who gave them. `clean` remembers the files without a token, which are
    read again once they have changed.
    """
    found = []
    for path in sorted(root.rglob("*")):
        inside = path.relative_to(root).as_posix()
        if MARK in inside.lower():
            found.append(f"name of {inside}")
        if path.is_file():
            status = path.stat()
            identity = (path, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
            if clean is not None and identity in clean:
                continue
            so_far = len(found)
            data = path.read_bytes().lower() + _unpacked(path).lower()
            if given is not None and path.name.startswith("predictions."):
                data = data.replace(str(given).lower().encode(), b"")
            wide = MARK.encode("utf-16-le")
            if MARK.encode() in data or wide in data:
                at = data.find(MARK.encode())
                found.append(f"{inside}: {data[max(0, at - 40) : at + 40]!r}")
            if path.suffix == ".png":
                with Image.open(path) as image:
                    found += [f"text of {inside}"] * (MARK in str(image.info).lower())
            if clean is not None and len(found) == so_far:
                clean.add(identity)
    return found


def _unpacked(path: Path) -> bytes:
    """What the members of an archive hold, with their names; nothing for other files."""
    if not zipfile.is_zipfile(path):
        return b""
    with zipfile.ZipFile(path) as archive:
        return b"".join(name.encode() + archive.read(name) for name in archive.namelist())


def test_the_sources_are_full_of_tokens(tmp_path: Path) -> None:
    """Negative control: the search finds what it should not find elsewhere, in each kind of place."""
    sources = make_sources(tmp_path)
    with zipfile.ZipFile(tmp_path / "packed.pt2", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data", token("packed") * 9)
    found = "\n".join(written(tmp_path))
    for kind in ("name of", ".dcm:", ".png:", ".jpg:", "table.csv:", "text of", "packed.pt2:"):
        assert kind in found
    assert len(identifying_tags()) > 150
    assert keyword_for_tag(0x00100010) in identifying_tags()
    del sources


def test_no_name_comes_out(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Oracle: the tokens. All commands, faults included; stdout, stderr and every file they write."""
    sources = make_sources(place / "in")
    out = place / "out"
    out.mkdir()
    gone_through = set()
    clean: set[object] = set()

    def do(*arguments: object, code: int = 0, named: tuple[str, ...] = ()) -> str:
        """Run a command; nothing but names that it was given may be said."""
        gone_through.add(arguments[0])
        found = command([str(a) for a in arguments])
        said = "".join(capfd.readouterr())
        assert found == code, said
        for allowed in (str(sources.table), str(sources.folder), str(sources.new), *named):
            said = said.replace(allowed, "")
        assert MARK not in said.lower(), said
        assert written(out, clean=clean) == [], arguments
        return said

    data = ("--data-root", out / "data")
    fast = ("--device", "cpu")
    # --- prepare: sound, again, with a bad file (refused, then left out), with a changed and a new one
    table = ("prepare", "--dataset", "table", "--source", sources.table / "table.csv", "--size", 32, *data)
    folder = ("prepare", "--dataset", "folder", "--source", sources.folder, "--size", 32, *data)
    do(*table, "--json", "--workers", 0)
    do(*table)
    do(*folder, "--name", "photos", "--probes", "--workers", 0)
    victim = token("image0")
    path = next(sources.folder.rglob(f"images/*/{victim}.png"))
    sound = path.read_bytes()
    path.write_bytes(sound[:200])
    # The file is named to the person who gave the folder, so that they can fix it.
    named = (path.relative_to(sources.folder).as_posix(),)
    do(*folder, "--name", "broken", "--workers", 0, code=2, named=named)
    do(*folder, "--name", "broken", "--workers", 0, "--skip-bad", "--json", named=named)
    path.write_bytes(sound)
    shutil.copy(path, path.with_name(f"{token('copy')}.png"))
    shutil.copy(
        sources.folder / "benign" / "masks" / path.name,
        sources.folder / "benign" / "masks" / f"{token('copy')}.png",
    )
    do(*folder, "--name", "photos", "-v", "--workers", 0)
    # --- audit, preview
    do("audit", "table", "--json", *data)
    do("audit", "photos", "--against", "table", *data)
    do("audit", "nothing-of-this-name", *data, code=2)
    do("preview", "photos", *data)
    # --- train: to the end, and with faults
    train = ("train", *data, *fast, "--epochs", 1, "--batch-size", 8)
    seg = ("--dataset", "photos", "--task", "segmentation", "--model", "tiny")
    do(*train, *seg, "--output", out / "runs" / "seg", "-v")
    do(*train, "--dataset", "table", "--task", "classification", "--output", out / "runs" / "cls")
    do(*train, *seg, "--lr", "1e38", "--set", "nonfinite_limit=1", "--set", "clip_norm=0", "--epochs", 40,
       "--output", out / "runs" / "diverged", code=2)  # fmt: skip
    do(*train, *seg, "--output", out / "runs" / "seg", code=2)
    do("train", "--resume", out / "runs" / "seg", "--extend", "--epochs", 2, "--json")
    # --- calibrate, evaluate, sharpness
    do("calibrate", out / "runs" / "cls", "--json")
    do("evaluate", out / "runs" / "seg", "--resamples", 100, "--split", "val")
    do("evaluate", out / "runs" / "cls", "--resamples", 100, "--json")
    do("evaluate", out / "runs" / "seg", "--dataset", "nothing", code=2)
    few = ("--cases", 4, "--trace-samples", 2, "--line-points", 3, "--surface-points", 2, "--eigenvalues", 1)
    do("sharpness", out / "runs" / "seg", *few)
    # --- predict: files that are named by their tags only; one is broken
    for name in ("seg", "cls"):
        arguments = ("predict", out / "runs" / name, sources.new, "--output", place / f"predicted-{name}")
        do(*arguments, code=2)
        # The table says which input a row is of, in the words that the person gave, and nothing else.
        assert written(place / f"predicted-{name}", sources.new) == []
    # --- DICOM objects: by the standard they belong to the patient of their image, as the user wants
    # it; nothing beside them names anybody
    series = sources.new / "series.dcm"
    series.write_bytes(dicom_file(97, "malignant", SeriesInstanceUID="1.2.3.4.6", StudyDate="20260101"))
    objects = place / "objects"
    do("predict", out / "runs" / "seg", series, "--output", objects, "--dicom-seg", "--dicom-sr", *fast[:2])
    made = sorted(objects.rglob("*.dcm"))
    assert len(made) == 2
    assert all(MARK.encode() in path.read_bytes() for path in made)
    for path in made:
        path.unlink()
    assert written(objects, series) == []
    # --- export, in every format, twice into one folder, and of nothing
    for name in FORMATS:
        # A bundle is of networks that MONAI has.
        do("export", out / "runs" / ("cls" if "bundle" in name else "seg"), "--format", name, "--json")
    do("export", out / "runs" / "seg", "--format", "safetensors", code=2)
    do("export", out / "runs" / "cls", "--format", token("format"), code=2, named=(token("format"),))
    # --- compare: runs made for it, finished runs, a plan that is there already, and runs that do not fit
    what = ("--dataset", "photos", "--task", "segmentation", "--models", "tiny", *data, *fast)
    study = ("compare", *what, "--optimizers", "adam,gcsam", "--seeds", "0-1", "--resamples", 100)
    few_epochs = ("--epochs", 1, "--batch-size", 8, "--split", "val")
    do(*study, *few_epochs, "--output", out / "study")
    do(*study, *few_epochs, "--output", out / "study", "--json")
    do(*study, *few_epochs, "--output", out / "planned", "--engine", "slurm")
    runs = sorted(path.parent for path in (out / "study").rglob("config.yaml"))
    assert len(runs) == 4
    do("compare", *runs, "--split", "val", "--resamples", 100, "--output", out / "compared")
    do("compare", out / "runs" / "seg", out / "runs" / "cls", "--split", "val", code=2)
    # --- plan: from the study as a pilot
    do("plan", out / "study", "--metric", "dice", "--margin", 0.1, "--output", out / "plan")
    # --- protocol: sealed, made, refused, made again for a reason
    outside = sources.folder.parent / token("outside")
    for number in range(300, 324):
        label = ("benign", "malignant")[number % 2]
        (outside / label).mkdir(parents=True, exist_ok=True)
        image = picture(label, 48, 64, np.random.default_rng(number))[0]
        image_file(outside / label / f"{token(f'image{number}')}.png", image)
    do("prepare", "--dataset", "folder", "--source", outside, "--name", "outside", "--size", 32, *data,
       "--workers", 0, named=(str(outside),))  # fmt: skip
    sealed = out / "protocol.json"
    do("protocol", "freeze", out / "runs" / "cls", "--external", "photos", "--out", sealed, *data, code=2)
    do("protocol", "freeze", out / "runs" / "cls", "--external", "outside", "--out", sealed, *data)
    do("protocol", "run", sealed, *fast)
    do("protocol", "run", sealed, *fast, code=2)
    do("protocol", "run", sealed, *fast, "--amend", "tried again")
    do("protocol", "show", sealed, "--json")
    # --- run: all of it by one command
    do("run", *folder[1:5], "--size", 32, *data, *fast, "--task", "segmentation", "--model", "tiny",
       "--epochs", 1, "--batch-size", 8, "--output", out / "runs" / "all")  # fmt: skip
    # --- view: serves until it is stopped; its pages are asked for here
    gone_through.add("view")
    page = opened(out / "runs")
    addresses = {"/", *re.findall(r'href="(/[^"#]*)"', page.get("/").text)}
    assert len(addresses) > 5
    for address in addresses:
        assert MARK not in page.get(address).text.lower(), address
    # --- runs, list, doctor
    do("runs", "--folder", out / "runs", "--json")
    do("list", "datasets", "--json")
    do("doctor", *data, "--json")
    assert json.loads((out / "data" / "prepared" / "photos" / "dataset.json").read_text())["n_cases"] > 20
    assert gone_through == set(COMMANDS)
