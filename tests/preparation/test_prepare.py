"""The whole of `prepare` on small data sets in every layout."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from gcsam_med.config import PrepareOptions
from gcsam_med.datasets import DATASETS, Case, Listing
from gcsam_med.datasets.demo import write_demo
from gcsam_med.datasets.download import sha256_of
from gcsam_med.datasets.prepared import PreparedDataset
from gcsam_med.errors import DataFaults, Fault, InputError
from gcsam_med.images import read_image, read_mask
from gcsam_med.preparation import Outcome, prepare, store
from gcsam_med.preparation import scan as scanning
from gcsam_med.preparation.listing import account_for_all, spell_patients
from gcsam_med.preparation.scan import ScanJob, scan
from gcsam_med.transforms.letterbox import Letterbox
from tests.datasets import layouts
from tests.images.malformed import dicom

SMALL = PrepareOptions(size=32, folds=3)
RAW = (
    "cifar10",
    "cifar100",
    "breastmnist",
    "pneumoniamnist",
    "jsrt",
)  # images that are no files of their own


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    return folder


def files_of(outcome: Outcome) -> set[str]:
    return {p.name for p in outcome.dataset.root.iterdir()}


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_every_source_becomes_a_data_set_that_holds_together(name: str, root: Path, tmp_path: Path) -> None:
    """The contract's files and columns; no group on two sides; pixels and masks of the right rows."""
    source = layouts.SOURCES[name](root)
    dataset = prepare(name, source, tmp_path / "data", options=SMALL, workers=1).dataset
    info, manifest = dataset.info, dataset.manifest
    assert info.n_cases == len(manifest) == len(set(manifest["case_id"]))
    assert {"audit.json", "audit.html", "splits.json", "images.npy", "manifest.csv"} <= {
        p.name for p in dataset.root.iterdir()
    }
    spec = DATASETS[name]
    given = name.startswith("cifar")
    if not given:
        assert (manifest.groupby("group_id")["split"].nunique() == 1).all()
    assert set(manifest["split"]) == {"train", "val", "test"}
    assert sum(c["cases"] for c in info.counts.values()) == info.n_cases
    if name not in RAW:
        listing = spec.list_cases(source)
        row = info.n_cases // 2
        path = str(manifest["source_path"].iloc[row])
        if spec.private:
            digest = manifest["source_sha256"].iloc[row]
            path = next(c.image for c in listing.cases if sha256_of(listing.root / c.image) == digest)
        read = read_image(listing.root / path)
        shown = read.grey if info.channels == 1 else read.pixels
        square = Letterbox(*shown.shape[:2], 32).place_image(shown)
        np.testing.assert_array_equal(dataset.images([row])[0], square)
        case = next(c for c in listing.cases if c.image == path)
        if case.masks and spec.mask_size == "refuse":
            union = np.any([read_mask(listing.root / m) for m in case.masks], axis=0)
            np.testing.assert_array_equal(dataset.original_mask(row), union)
    if info.has_masks:
        for row in range(0, info.n_cases, 3):
            mask, geometry = dataset.original_mask(row), dataset.geometry(row)
            np.testing.assert_array_equal(dataset.masks([row])[0], geometry.place_mask(mask))


def test_busi_facts(root: Path, tmp_path: Path) -> None:
    """Normal images have an empty mask; the union has both lesions; the citation is kept."""
    dataset = prepare("busi", layouts.busi(root), tmp_path, options=SMALL).dataset
    manifest = dataset.manifest.set_index("case_id")
    assert manifest.loc["normal (1)", "has_mask"]
    rows = {case: row for row, case in enumerate(dataset.manifest["case_id"])}
    assert not dataset.original_mask(rows["normal (1)"]).any()
    expected = layouts.blob(2) | layouts.blob(77)
    np.testing.assert_array_equal(dataset.original_mask(rows["benign (2)"]), expected)
    assert dataset.info.negative_classes == ["normal"]
    assert "Al-Dhabyani" in dataset.info.citation
    assert (dataset.info.group_kind, dataset.info.synthetic) == ("near-duplicate", False)


def test_cifar_pixels_are_the_record(root: Path, tmp_path: Path) -> None:
    """Rows of the batch files, in order."""
    source = layouts.cifar10_binary(root)
    dataset = prepare("cifar10", source, tmp_path, options=PrepareOptions(folds=4), workers=1).dataset
    pictures, _ = layouts.cifar_pictures(20, 10, seed=2)
    row = 2 * 20 + 7
    enlarged = Letterbox(32, 32, 256).place_image(pictures[7].transpose(1, 2, 0))
    np.testing.assert_array_equal(dataset.images([row])[0], enlarged)
    assert (dataset.info.channels, dataset.info.modality, dataset.info.folds) == (3, "photo", 4)
    assert dataset.info.counts["test"]["cases"] == 20


def test_covid_masks_are_brought_to_the_images_size(root: Path, tmp_path: Path) -> None:
    """24 x 24 masks of 48 x 48 images; refused on request; another shape is refused in any case."""
    source = layouts.covid(root)
    dataset = prepare("covid-radiography", source, tmp_path, options=SMALL).dataset
    half = layouts.blob(1, 24, 24)
    whole = dataset.original_mask(0)
    assert whole.shape == (48, 48)
    assert abs(whole.sum() - 4 * half.sum()) < 0.1 * whole.sum()
    with pytest.raises(DataFaults) as caught:
        prepare(
            "covid-radiography", source, tmp_path, options=SMALL.model_copy(update={"mask_size": "refuse"})
        )
    assert {f.reason for f in caught.value.faults} == {"size-differs"}
    layouts.save(source / "COVID" / "masks" / "COVID-1.png", layouts.blob(1, 24, 40))
    with pytest.raises(DataFaults) as caught:
        prepare("covid-radiography", source, tmp_path, options=SMALL)
    assert [f.path for f in caught.value.faults] == ["COVID/masks/COVID-1.png"]


def test_official_folds_of_busbra(root: Path, tmp_path: Path) -> None:
    """Patients, four folds and the test set of fold 5."""
    dataset = prepare("busbra", layouts.busbra(root), tmp_path).dataset
    assert (dataset.info.folds, dataset.info.group_kind) == (4, "patient")
    assert (dataset.manifest.groupby("group_id")["fold"].nunique() == 1).all()
    assert set(dataset.manifest.query("group_id == '4'")["split"]) == {"test"}


def test_all_faults_are_listed_and_the_former_set_stays(root: Path, tmp_path: Path) -> None:
    """Faults of the layout and of the content together; then --skip-bad leaves out and records them."""
    source = layouts.busi(root)
    former = prepare("busi", source, tmp_path, options=SMALL).dataset.info.content_sha256
    (source / "benign" / "benign (1).png").write_bytes(b"")
    (source / "benign" / "benign (2)_mask.png").unlink()
    layouts.save(source / "malignant" / "malignant (1)_mask.png", layouts.blob(1, 41, 56))
    layouts.save(source / "malignant" / "malignant (2)_mask.png", np.zeros((40, 56), dtype=bool))
    (source / "malignant" / "malignant (3).png").unlink()
    with pytest.raises(DataFaults) as caught:
        prepare("busi", source, tmp_path, options=SMALL)
    assert {f.path: f.reason for f in caught.value.faults} == {
        "benign/benign (1).png": "empty",
        "malignant/malignant (1)_mask.png": "size-differs",
        "malignant/malignant (2)_mask.png": "empty-mask",
        "malignant/malignant (3)_mask.png": "no-image",
    }
    assert PreparedDataset(tmp_path / "prepared" / "busi").info.content_sha256 == former
    outcome = prepare("busi", source, tmp_path, options=SMALL.model_copy(update={"skip_bad": True}))
    assert len(outcome.faults) == 4
    assert outcome.dataset.info.n_cases == 14
    recorded = json.loads((outcome.dataset.root / "audit.json").read_text())["quarantined"]
    assert {r["reason"] for r in recorded} == {"empty", "size-differs", "empty-mask", "no-image"}


def test_the_audit_shows_what_is_wrong_with_masks(root: Path, tmp_path: Path) -> None:
    """Oracle: the page's own pictures; masks in greys and colours are shown, a large one is outlined."""
    source = layouts.busi(root)
    levels = layouts.blob(1) * np.uint8(120) + layouts.blob(2) * np.uint8(120)
    colours = np.stack([layouts.blob(k) * np.uint8(80 * k) for k in (1, 2, 3)], axis=2)
    large = np.pad(np.ones((36, 50), dtype=bool), ((2, 2), (3, 3)))
    for name, mask in {"benign (1)": levels, "benign (3)": colours, "benign (4)": large}.items():
        layouts.save(source / "benign" / f"{name}_mask.png", mask)
    (source / "benign" / "benign (5).png").write_bytes(b"")
    outcome = prepare("busi", source, tmp_path, options=SMALL.model_copy(update={"skip_bad": True}))
    page = (outcome.dataset.root / "audit.html").read_text()
    shown = {
        title: np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))
        for data, title in re.findall(r'base64,([^"]+)" alt="Thumbnail: ([^"]+)"', page)
    }
    assert set(shown) == {"benign/benign (1)_mask.png", "benign/benign (3)_mask.png", "benign (4)"}
    red, _, blue = shown["benign (4)"].astype(int).transpose(2, 0, 1)
    assert (blue - red > 50).any()  # the outline; the image is grey
    assert len(np.unique(shown["benign/benign (1)_mask.png"])) > 2


def test_a_second_run_does_nothing_and_a_changed_source_is_told(root: Path, tmp_path: Path) -> None:
    """Same source and options: untouched. Then a changed, an added and a removed file, then an option."""
    source = layouts.busi(root)
    first = prepare("busi", source, tmp_path, options=SMALL)
    stamp = (first.dataset.root / "images.npy").stat().st_mtime_ns
    again = prepare("busi", source, tmp_path, options=SMALL)
    assert (again.fresh, again.changes) == (False, ())
    assert (first.dataset.root / "images.npy").stat().st_mtime_ns == stamp
    assert again.audit == first.audit
    layouts.save(source / "benign" / "benign (1).png", layouts.speckle(999))
    layouts.save(source / "normal" / "normal (9).png", layouts.speckle(998))
    (source / "malignant" / "malignant (6).png").unlink()
    (source / "malignant" / "malignant (6)_mask.png").unlink()
    changed = prepare("busi", source, tmp_path, options=SMALL)
    assert changed.fresh
    assert changed.changes == (
        "1 file added (normal/normal (9).png)",
        "2 files removed (malignant/malignant (6).png, malignant/malignant (6)_mask.png)",
        "1 file changed (benign/benign (1).png)",
    )
    larger = prepare("busi", source, tmp_path, options=PrepareOptions(size=48, folds=3))
    assert larger.changes == ("size is 48, was 32",)
    assert prepare("busi", source, tmp_path, options=PrepareOptions(size=48, folds=3), force=True).fresh


def test_changed_labels_of_a_table_are_told_without_names(root: Path, tmp_path: Path) -> None:
    """The images are the same; the table is not."""
    path = layouts.table(root)
    prepare("table", path, tmp_path, options=SMALL)
    path.write_text(path.read_text().replace("i3.png,m3.png,b", "i3.png,m3.png,a"))
    (root / "i4.png").write_bytes((root / "i5.png").read_bytes())
    changes = prepare("table", path, tmp_path, options=SMALL).changes
    assert changes == ("1 file changed", "label, patient, split or attributes of 1 cases changed")


def test_a_zip_gives_the_same_as_its_folder_and_is_known_again(root: Path, tmp_path: Path) -> None:
    """By the archive's hash, without unpacking."""
    source = layouts.busi(root)
    archive = tmp_path / "busi.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(source.rglob("*.png")):
            file.write(path, path.relative_to(root))
    a = prepare("busi", source, tmp_path / "a", options=SMALL).dataset.info
    b = prepare("busi", archive, tmp_path / "b", options=SMALL).dataset.info
    assert a.content_sha256 == b.content_sha256
    assert not prepare("busi", archive, tmp_path / "b", options=SMALL).fresh
    assert [p.name for p in (tmp_path / "b" / "prepared").iterdir()] == ["busi"]


def test_private_sources_hide_names_and_group_by_hashed_patient(root: Path, tmp_path: Path) -> None:
    """Case ids, groups, audit and page hold no file name and no patient; free text columns are left out."""
    outcome = prepare("table", layouts.table(root), tmp_path, options=SMALL)
    dataset = outcome.dataset
    assert dataset.info.group_kind == "patient"
    assert dataset.manifest["group_id"].nunique() == 9
    assert dataset.manifest["case_id"].str.fullmatch(r"c[0-9a-f]{16}").all()
    assert "site" in dataset.manifest
    assert "note" not in dataset.manifest
    assert any("note left out" in w for w in outcome.warnings)
    for name in ("audit.json", "audit.html", "splits.json", "dataset.json", "fingerprints.csv"):
        text = (dataset.root / name).read_text()
        assert "i3.png" not in text
        assert "patient 3" not in text
    assert set(dataset.manifest["source_path"]) == {""}
    assert "i3.png" not in (dataset.root / "sources.json").read_text()
    other = prepare("table", root / "table.csv", tmp_path / "elsewhere", options=SMALL).dataset
    assert not set(other.manifest["group_id"]) & set(dataset.manifest["group_id"])


def test_dicom_folders_group_by_patient_and_know_the_device(root: Path, tmp_path: Path) -> None:
    """Two files a patient, names without suffix; the frames of one file stay together."""
    for i in range(16):
        frames = np.stack([layouts.speckle(10 * i + k, 48, 64) for k in range(3)])
        path = root / "ab"[i % 2] / f"IM{i:04d}"
        path.parent.mkdir(exist_ok=True)
        tags = {"PatientID": f"patient-{i // 2}", "Manufacturer": "Maker", "PixelSpacing": [0.2, 0.1]}
        path.write_bytes(dicom(frames.tobytes(), NumberOfFrames=3, **tags))
    outcome = prepare("folder", root, tmp_path, options=SMALL.model_copy(update={"frames": "all"}))
    dataset, manifest = outcome.dataset, outcome.dataset.manifest
    assert len(dataset) == 48
    assert dataset.info.group_kind == "patient"
    assert manifest.groupby("group_id").size().tolist() == [6] * 8
    assert set(manifest["device"]) == {"Maker"}
    assert dataset.spacing(0) == (0.2, 0.1)
    assert manifest["case_id"].str.match(r"c[0-9a-f]{16}-f000[012]$").all()
    assert outcome.audit["notes"] == [{"note": "burned-in-annotation-unknown", "cases": 48}]
    assert any("48 ultrasound images do not say" in w for w in outcome.warnings)
    second = dataset.images([1])
    middle = prepare("folder", root, tmp_path, options=SMALL.model_copy(update={"frames": "middle"})).dataset
    np.testing.assert_array_equal(middle.images([0]), second)


def busi_with_copies(root: Path) -> Path:
    """A copy under the other label, a mirrored copy, and an exact copy."""
    source = layouts.busi(root, (12, 10, 4))
    image = Image.open(source / "benign" / "benign (3).png")
    shutil.copy(source / "benign" / "benign (3).png", source / "malignant" / "malignant (1).png")
    ImageOps.mirror(image).save(source / "benign" / "benign (7).png")
    shutil.copy(source / "benign" / "benign (5).png", source / "benign" / "benign (6).png")
    return source


def test_duplicates_are_grouped_and_conflicts_told(root: Path, tmp_path: Path) -> None:
    """One picture under two labels; all copies on one side."""
    outcome = prepare("busi", busi_with_copies(root), tmp_path, options=SMALL)
    manifest = outcome.dataset.manifest.set_index("case_id")
    assert {manifest.loc[c, "group_id"] for c in ("benign (7)", "malignant (1)")} == {"benign (3)"}
    assert manifest.loc["benign (6)", "group_id"] == "benign (5)"
    (conflict,) = outcome.audit["conflicts"]
    assert (conflict["first"], conflict["second"], conflict["kind"]) == (
        "benign (3)",
        "malignant (1)",
        "exact",
    )
    assert conflict["action"] == "keep-together"
    assert outcome.audit["summary"]["exact_duplicate_pairs"] == 2
    assert outcome.audit["summary"]["near_duplicate_pairs"] == 1
    assert 0 < outcome.audit["summary"]["random_split_leak"] < 0.4
    assert "under two labels" in outcome.warnings[0]


def test_conflicts_are_dropped_on_request(root: Path, tmp_path: Path) -> None:
    """Both images go, their mirrored copy stays; pixels and masks of the rest are their own."""
    source = busi_with_copies(root)
    whole = prepare("busi", source, tmp_path / "a", options=SMALL).dataset
    options = SMALL.model_copy(update={"conflicts": "drop"})
    outcome = prepare("busi", source, tmp_path / "b", options=options)
    kept = outcome.dataset
    assert outcome.audit["dropped"] == ["benign (3)", "malignant (1)"]
    assert outcome.audit["conflicts"][0]["action"] == "drop"
    assert len(kept) == len(whole) - 2
    rows = {c: r for r, c in enumerate(whole.manifest["case_id"])}
    for row, case in enumerate(kept.manifest["case_id"]):
        np.testing.assert_array_equal(kept.images([row]), whole.images([rows[case]]))
        np.testing.assert_array_equal(kept.original_mask(row), whole.original_mask(rows[case]))


def test_split_by_image_is_stamped_and_its_leak_is_told(root: Path, tmp_path: Path) -> None:
    """Many copies: some land on the other side."""
    source = layouts.busi(root, (16, 8, 0))
    for i in range(2, 17):
        shutil.copy(source / "benign" / "benign (1).png", source / "benign" / f"benign ({i}).png")
    outcome = prepare("busi", source, tmp_path, options=SMALL.model_copy(update={"split_by": "image"}))
    assert outcome.dataset.info.group_kind == "image"
    assert outcome.audit["summary"]["groups_on_both_sides"] == 1
    assert any("both sides" in w for w in outcome.warnings)
    assert "Split by image" in (outcome.dataset.root / "audit.html").read_text()


def test_a_given_split_that_leaks_is_honoured_and_told(root: Path, tmp_path: Path) -> None:
    """The patient in train and test is reported, not moved."""
    path = layouts.table(root)
    lines = path.read_text().splitlines()
    rows = [f"{line},{'train' if i < 11 else 'test'}" for i, line in enumerate(lines[1:])]
    path.write_text("\n".join([lines[0] + ",split", *rows]) + "\n")
    outcome = prepare("table", path, tmp_path, options=SMALL)
    assert outcome.dataset.info.counts["test"]["cases"] == 7
    assert outcome.audit["summary"]["groups_on_both_sides"] == 1
    assert len(outcome.audit["leaks"]) == 1


def test_a_split_file_is_applied_under_other_names(root: Path, tmp_path: Path) -> None:
    """A colleague's copy: renamed, in another layout, other seed: the same split by content."""
    source = layouts.busi(root, (8, 6, 0))
    ours = prepare("busi", source, tmp_path / "ours", options=SMALL).dataset
    theirs_source = tmp_path / "theirs"
    for path in source.rglob("*.png"):
        masks = "_mask" in path.name
        name = path.name.replace(" ", "").replace("(", "x").replace(")", "")
        target = theirs_source / path.parent.name / ("masks" if masks else "") / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    splits = ours.root / "splits.json"
    options = PrepareOptions(size=48, seed=9, folds=3)
    theirs = prepare("folder", theirs_source, tmp_path / "data", options=options, splits=splits).dataset
    columns = ["source_sha256", "split", "fold", "group_id"]
    one, two = (d.manifest[columns].sort_values("source_sha256").to_numpy() for d in (ours, theirs))
    np.testing.assert_array_equal(one, two)
    again = prepare("folder", theirs_source, tmp_path / "data", options=options, splits=splits)
    assert not again.fresh
    layouts.save(theirs_source / "benign" / "new.png", layouts.speckle(12345))
    layouts.save(theirs_source / "benign" / "masks" / "new.png", layouts.blob(1))
    with pytest.raises(InputError, match="1 of 15 images are not in the split file"):
        prepare("folder", theirs_source, tmp_path / "data", options=options, splits=splits)
    splits.write_text("[]")
    with pytest.raises(InputError, match="not a split file"):
        prepare("folder", theirs_source, tmp_path / "data", options=options, splits=splits)


def test_processes_read_the_same_as_one(root: Path) -> None:
    """In order, with faults in their places; nothing of the parent is needed."""
    source = layouts.busi(root, (60, 10, 0))
    (source / "benign" / "benign (9).png").write_bytes(b"broken")
    cases = DATASETS["busi"].list_cases(source).cases
    job = ScanJob(source, 16, 1, ("normal",))
    alone, together = (list(scan(cases, job, workers)) for workers in (1, 2))
    assert len(alone) == len(together) == 70
    for one, two in zip(alone, together, strict=True):
        assert [type(x) for x in one] == [type(x) for x in two]
        assert isinstance(one[0], Fault) or one[0].facts == two[0].facts  # type: ignore[union-attr]


def test_a_crashing_decoder_costs_one_file(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A case whose reading kills its process is named; the others are kept, in order."""
    source = layouts.busi(root, (6, 2, 0))
    cases = DATASETS["busi"].list_cases(source).cases
    monkeypatch.setattr(scanning, "POOL_FROM", 1)
    monkeypatch.setattr(scanning, "_scan_chunk", _crashing_chunk)
    monkeypatch.setattr(scanning, "scan_case", _crashing_case)
    found = list(scan(cases, ScanJob(source, 16, 1, ("normal",)), workers=2))
    assert [isinstance(x[0], Fault) for x in found] == [c.name == "benign (2)" for c in cases]
    (fault,) = found[1]
    assert isinstance(fault, Fault)
    assert fault.reason == "crash"


def _crashing_case(case, job):  # type: ignore[no-untyped-def]
    if case.name == "benign (2)":
        import os

        os._exit(139)
    return scanning.scan_case(case, job)


def _crashing_chunk(cases, job):  # type: ignore[no-untyped-def]
    return [_crashing_case(case, job) for case in cases]


def test_preparing_imports_no_torch(root: Path, tmp_path: Path) -> None:
    """A process that prepares a data set never loads torch (its import takes longer than most data sets)."""
    import subprocess

    source = layouts.busi(root)
    code = (
        "import sys; from pathlib import Path; from gcsam_med.preparation import *;"
        "o = PrepareOptions(size=32, folds=3);"
        f"prepare('busi', Path({str(source)!r}), Path({str(tmp_path)!r}), options=o);"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dataset": "bsui"}, "Unknown data set 'bsui'"),
        ({"images": Path("x")}, "belongs to --dataset folder or table"),
        ({"source": Path("nowhere")}, "is not there"),
        ({"splits": Path("nowhere")}, "cannot be read"),
    ],
)
def test_wrong_arguments_are_named(
    arguments: dict[str, object], message: str, root: Path, tmp_path: Path
) -> None:
    """What a person can mistype."""
    given = {
        "dataset": "busi",
        "source": layouts.busi(root),
        "data_root": tmp_path,
        "options": SMALL,
    } | arguments
    with pytest.raises(InputError, match=message):
        prepare(**given)  # type: ignore[arg-type]


def masked(root: Path, change: Callable[[int, np.ndarray], np.ndarray], image: str = "png") -> Path:
    """Twelve images with masks that `change` alters."""
    for i in range(12):
        layouts.save(root / "images" / f"{i}.{image}", layouts.speckle(i))
        layouts.save(root / "masks" / f"{i}.png", change(i, layouts.blob(i).astype(np.uint8) * 255))
    return root


CONTENT: dict[str, tuple[Callable[[int, np.ndarray], np.ndarray], str, dict[str, Any]]] = {
    "inverted": (lambda i, m: 255 - m, "inverted", {"invert_masks": True}),
    "levels": (lambda i, m: np.where(np.arange(56) < 28, m // 2, m), "levels", {"mask_values": "1-255"}),
    "empty": (lambda i, m: m * np.uint8(i % 2), "empty-mask", {"empty_masks": "healthy"}),
    "swapped": (lambda i, m: layouts.speckle(i), "not-a-mask", {}),
}


@pytest.mark.parametrize("kind", CONTENT)
def test_what_masks_hold_is_refused_until_an_option_settles_it(kind: str, root: Path, tmp_path: Path) -> None:
    """Oracle: the reason of every fault, then the pixels of the mask that the option means."""
    change, reason, options = CONTENT[kind]
    source = masked(root, change)
    with pytest.raises(DataFaults) as caught:
        prepare("folder", source, tmp_path / "data", size=32, folds=3)
    assert {f.reason for f in caught.value.faults} == {reason}
    if options:
        dataset = prepare("folder", source, tmp_path / "data", size=32, folds=3, **options).dataset
        found = sorted(int(dataset.original_mask(row).sum()) for row in range(12))
        expected = (int(layouts.blob(i).sum()) * (kind != "empty" or i % 2) for i in range(12))
        assert found == sorted(expected)
        assert dataset.info.classes == (["lesion", "normal"] if kind == "empty" else [])
        assert dataset.info.negative_classes == (["normal"] if kind == "empty" else [])


def test_an_image_turned_by_exif_beside_a_mask_that_is_not(root: Path, tmp_path: Path) -> None:
    masked(root, lambda i, m: m, "jpg")
    for path in (root / "images").iterdir():
        with Image.open(path) as image:
            exif = image.getexif()
            exif[0x0112] = 3
            image.save(path, exif=exif)
    with pytest.raises(DataFaults) as caught:
        prepare("folder", root, tmp_path / "data", size=32, folds=3)
    assert {f.reason for f in caught.value.faults} == {"rotated"}
    thumbs = {}
    for exif in ("apply", "ignore"):
        dataset = prepare("folder", root, tmp_path / "data", size=56, folds=3, name=exif, exif=exif).dataset
        found = sorted(dataset.original_mask(row).tobytes() for row in range(12))
        assert found == sorted(layouts.blob(i).tobytes() for i in range(12)), "masks have no mark"
        order = np.argsort(dataset.manifest["source_sha256"])
        thumbs[exif] = dataset.images(order)
    # Orientation 3 is a turn by 180 degrees; the letterbox leaves 8 rows at top and bottom.
    turned = thumbs["apply"][:, ::-1, ::-1].astype(int)
    np.testing.assert_array_equal(turned, thumbs["ignore"])


def test_marks_are_painted_over_on_request_and_what_was_there_is_kept(root: Path, tmp_path: Path) -> None:
    """Oracle: a cross drawn on every image; a set prepared without the option."""
    source = layouts.busi(root)
    for path in source.rglob("*).png"):
        pixels = np.asarray(Image.open(path)) // 2
        pixels[20, 14:27] = pixels[14:27, 20] = 255
        layouts.save(path, pixels)
    plain = prepare("busi", source, tmp_path, size=56, folds=3, name="plain").dataset
    dataset = prepare("busi", source, tmp_path, size=56, folds=3, inpaint_marks=True).dataset
    assert dataset.info.options["inpaint_marks"] is True
    rows = np.arange(dataset.info.n_cases)
    kept = np.load(dataset.root / "images_with_marks.npy")
    np.testing.assert_array_equal(kept, plain.images(rows))
    assert not (plain.root / "images_with_marks.npy").exists()
    cross = np.s_[:, 28, 16:25]  # row 20 of 40 lies at 28 of 56
    assert (kept[cross] == 255).all()
    assert dataset.images(rows)[cross].max() < 200
    np.testing.assert_array_equal(dataset.masks(rows), plain.masks(rows))


def test_an_unchanged_source_is_not_read_again(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is any file hashed twice by the first run; oracle: the files that are opened for their hash."""
    source = layouts.busi(root, (4, 4, 4))
    hashed: list[str] = []
    original = store.sha256_of
    monkeypatch.setattr(store, "sha256_of", lambda path: hashed.append(path.name) or original(path))
    assert prepare("busi", source, tmp_path, size=32, folds=3).fresh
    assert not prepare("busi", source, tmp_path, size=32, folds=3).fresh
    assert hashed == []
    image = source / "benign" / "benign (1).png"
    image.touch()
    assert not prepare("busi", source, tmp_path, size=32, folds=3).fresh
    assert hashed == ["benign (1).png"]
    layouts.save(image, layouts.speckle(99))
    again = prepare("busi", source, tmp_path, size=32, folds=3)
    assert (again.fresh, again.changes) == (True, ("1 file changed (benign/benign (1).png)",))
    assert not prepare("busi", source, tmp_path, size=32, folds=3).fresh


def test_masks_given_as_images_are_refused(root: Path, tmp_path: Path) -> None:
    """Two values only: no picture."""
    for i in range(12):
        layouts.save(root / "ab"[i % 2] / f"{i}.png", layouts.blob(i).astype(np.uint8) * 255)
    with pytest.raises(DataFaults) as caught:
        prepare("folder", root, tmp_path / "data", size=32, folds=3)
    assert {f.reason for f in caught.value.faults} == {"two-valued"}


def test_a_picture_of_one_value_and_files_without_a_place_are_found(root: Path, tmp_path: Path) -> None:
    """Warned of, and listed in audit.json and on the page."""
    source = layouts.busi(root)
    layouts.save(source / "benign" / "benign (1).png", np.full((40, 56), 7, dtype=np.uint8))
    layouts.save(source / "preview.png", layouts.speckle(1))
    outcome = prepare("busi", source, tmp_path / "data", options=SMALL)
    assert outcome.audit["unused"] == [
        {"path": "preview.png", "reason": "not-listed", "detail": "the layout has no place for it."}
    ]
    assert "1 image files are neither image nor mask" in " ".join(outcome.warnings)
    assert "1 images have one grey value only" in " ".join(outcome.warnings)
    assert "preview.png" in (outcome.dataset.root / "audit.html").read_text()


def test_case_ids_are_unique_though_names_are_not(root: Path, tmp_path: Path) -> None:
    """BUSI's layout with the same numbers in each class."""
    for i in range(12):
        for k, label in enumerate(("benign", "malignant")):
            layouts.save(root / label / f"{i}.png", layouts.speckle(100 * k + i))
            layouts.save(root / label / f"{i}_mask.png", layouts.blob(i))
    manifest = prepare("busi", root, tmp_path / "data", options=SMALL).dataset.manifest
    assert manifest["case_id"].is_unique
    assert manifest["case_id"][0] == "benign/0"


def people(root: Path, name: Callable[[int], str]) -> Path:
    for i in range(24):
        layouts.save(root / "ab"[i % 2] / name(i), layouts.speckle(i))
    return root


def test_patients_in_names_are_offered_and_taken_when_asked_for(root: Path, tmp_path: Path) -> None:
    """Kermany's naming; oracle: the groups of the manifest."""
    source = people(root, lambda i: f"person{i // 3}_virus_{i}.png")
    outcome = prepare("folder", source, tmp_path / "data", options=SMALL)
    assert "--group-regex '(person" in " ".join(outcome.warnings)
    assert outcome.dataset.info.group_kind == "near-duplicate"
    outcome = prepare("folder", source, tmp_path / "data", options=SMALL, group_regex=r"(person\d+)_")
    assert outcome.dataset.info.group_kind == "patient"
    assert outcome.dataset.manifest["group_id"].nunique() == 8
    with pytest.raises(InputError, match="finds nothing"):
        prepare("folder", source, tmp_path / "data", options=SMALL, group_regex="patient")
    with pytest.raises(InputError, match="no regular expression"):
        prepare("folder", source, tmp_path / "data", options=SMALL, group_regex="(")


def test_spellings_of_one_patient_are_one() -> None:
    """By hand: P01 and p1, 7 and 007 and 7.0; another patient stays."""
    names = ["P01", "p1 ", "7", "007", "7.0", "P10", "", ""]
    cases = tuple(Case(str(i), f"{i}.png", patient=name) for i, name in enumerate(names))
    spelled = spell_patients(Listing(Path(), cases, ()))
    assert [c.patient for c in spelled.cases] == ["P01", "P01", "7", "7", "7", "P10", "", ""]
    assert spelled.notes[0].startswith("2 patients are spelled in several ways")


def test_images_without_class_and_mask_are_said_to_teach_nothing(tmp_path: Path) -> None:
    """And what lies beside them unread."""
    layouts.save(tmp_path / "1.png", layouts.speckle(1))
    (tmp_path / "labels.csv").write_text("image,label\n1.png,a\n")
    listing = account_for_all(Listing(tmp_path, (Case("1", "1.png"),), ()))
    assert "nothing to learn" in listing.notes[0]
    assert "1 .csv" in listing.notes[0]


def test_one_id_for_all_is_no_patient(root: Path, tmp_path: Path) -> None:
    """An anonymiser's constant; near-duplicates keep images together instead, and it is said."""
    for i in range(24):
        layouts.save(root / f"{i}.png", layouts.speckle(i))
    rows = "".join(f"{i}.png,{'ab'[i % 2]},ANON-7\n" for i in range(24))
    (root / "t.csv").write_text("image,label,group\n" + rows)
    outcome = prepare("table", root / "t.csv", tmp_path / "data", options=SMALL)
    assert outcome.dataset.info.group_kind == "near-duplicate"
    assert "One patient id stands for 24 of 24 images" in " ".join(outcome.warnings)


def test_options_of_other_data_sets_are_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--mask-suffix belongs to --dataset folder, not to busi"):
        prepare("busi", layouts.busi(root), tmp_path / "data", mask_suffix="_x")


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
