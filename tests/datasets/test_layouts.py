"""Every source lists its cases from its own layout and names what does not belong there."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from gcsam_med.datasets import DATASETS
from gcsam_med.errors import InputError
from gcsam_med.images import read_mask
from tests.datasets import layouts


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_every_entry_says_what_people_need(name: str) -> None:
    """No part is missing: title, layout, and where data are public licence, citation, the finding."""
    spec = DATASETS[name]
    assert spec.title
    assert spec.layout
    if not spec.private:
        assert spec.licence
        assert "(" in spec.citation, "a citation has a year"
        assert spec.modality == "photo" or spec.positive
        assert spec.modality == "photo" or spec.anatomy
    if spec.download is not None:
        assert spec.download.url.startswith("https://")


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_an_empty_folder_is_refused_with_what_was_expected(name: str, tmp_path: Path) -> None:
    """Two lines for a person, no traceback."""
    with pytest.raises(InputError):
        DATASETS[name].list_cases(tmp_path)


def test_busi_unites_masks_and_orders_by_number(tmp_path: Path) -> None:
    """Also from the folder above, as the archive unpacks."""
    layouts.busi(tmp_path, (11, 3, 2))
    listing = DATASETS["busi"].list_cases(tmp_path)
    assert [c.name for c in listing.cases[:3]] == ["benign (1)", "benign (2)", "benign (3)"]
    assert listing.cases[1].masks == ("benign/benign (2)_mask.png", "benign/benign (2)_mask_1.png")
    assert Counter(c.label for c in listing.cases) == {"benign": 11, "malignant": 3, "normal": 2}
    assert listing.classes == ("benign", "malignant", "normal")
    assert not listing.faults


def test_busi_names_orphans_on_both_sides(tmp_path: Path) -> None:
    """A mask without its image, a lesion without its mask; a normal image needs none."""
    folder = layouts.busi(tmp_path)
    (folder / "benign" / "benign (1).png").unlink()
    (folder / "malignant" / "malignant (1)_mask.png").unlink()
    (folder / "normal" / "normal (1)_mask.png").unlink()
    faults = {f.path: f.reason for f in DATASETS["busi"].list_cases(folder).faults}
    assert faults == {
        "benign/benign (1)_mask.png": "no-image",
        "malignant/malignant (1).png": "no-mask",
    }


def test_busbra_knows_patients_and_official_folds(tmp_path: Path) -> None:
    """Fold 5 is the test set; folds 1 to 4 are 0 to 3; both images of a patient are in one."""
    listing = DATASETS["busbra"].list_cases(layouts.busbra(tmp_path))
    assert len(listing.cases) == 20
    for case in listing.cases:
        official = 1 + int(case.patient) % 5
        assert (case.split, case.fold) == (("test", -1) if official == 5 else ("", official - 1))
        assert case.attributes["device"] == "Maker A"
    assert {c.patient for c in listing.cases if c.name.startswith("bus_0003")} == {"3"}


def test_busbra_names_what_its_tables_get_wrong(tmp_path: Path) -> None:
    """Missing files, unknown labels, no fold, unlisted images, paths in ids."""
    folder = layouts.busbra(tmp_path)
    (folder / "Images" / "bus_0001-l.png").unlink()
    (folder / "Masks" / "mask_0001-r.png").unlink()
    layouts.save(folder / "Images" / "bus_9999-l.png", layouts.speckle(1))
    table = (folder / "bus_data.csv").read_text()
    table = table.replace("bus_0002-l,2,cyst,benign", "bus_0002-l,2,cyst,dubious")
    (folder / "bus_data.csv").write_text(table + "../../etc/passwd,1,cyst,benign,2,M,1,1,left,\n")
    folds = (folder / "5-fold-cv.csv").read_text()
    (folder / "5-fold-cv.csv").write_text(folds.replace("bus_0002-r,benign,3", "bus_0002-r,benign,NaN"))
    reasons = Counter(f.reason for f in DATASETS["busbra"].list_cases(folder).faults)
    assert reasons == {"missing": 2, "no-mask": 1, "label-unknown": 1, "no-fold": 1, "not-listed": 1}


def test_breast_reads_its_sheet_and_names_what_it_gets_wrong(tmp_path: Path) -> None:
    """Two tumours of an image are united, other masks unused; missing and unlisted files are named."""
    listing = DATASETS["breast"].list_cases(layouts.breast(tmp_path))
    assert Counter(c.label for c in listing.cases) == {"benign": 8, "malignant": 8, "normal": 4}
    case = next(c for c in listing.cases if c.name == "case003")
    assert case.masks == ("case003_tumor1.png", "case003_tumor2.png")
    assert case.attributes["birads"] == "4a"
    assert [f.path for f in listing.unused] == ["case002_other1.png"]
    assert not listing.faults
    (tmp_path / "case001.png").replace(tmp_path / "case099.png")
    (tmp_path / "case002_tumor.png").unlink()
    layouts.save(tmp_path / "case001.png", layouts.speckle(1))
    reasons = {f.path: f.reason for f in DATASETS["breast"].list_cases(tmp_path).faults}
    assert reasons == {"case002.png": "missing", "case099.png": "not-listed"}


def faults_of(name: str, root: Path) -> dict[str, str]:
    return {f.path: f.reason for f in DATASETS[name].list_cases(root).faults}


def test_gdph_sysucc_tells_class_and_hospital_and_what_is_wrong(tmp_path: Path) -> None:
    root = layouts.gdph_sysucc(tmp_path)
    listing = DATASETS["gdph-sysucc"].list_cases(root)
    assert Counter(c.label for c in listing.cases) == {"benign": 12, "malignant": 12}
    assert Counter(c.attributes["site"] for c in listing.cases) == {"GDPH": 12, "SYSUCC": 12}
    assert listing.cases[0].attributes["birads_reader1"] == "4a"
    folder = root / "GDPH&SYSUCC" / "GDPH"
    (folder / "benign(0).png").replace(folder / "strange.png")
    assert faults_of("gdph-sysucc", root) == {"GDPH/strange.png": "label-unknown", "benign(0)": "missing"}
    (root / "GDPH&SYSUCC" / "BIRADS&FOLD.xlsx").unlink()
    assert faults_of("gdph-sysucc", root) == {"GDPH/strange.png": "label-unknown"}


def test_bus_uclm_tells_patients_and_colours_and_what_is_wrong(tmp_path: Path) -> None:
    """Red is as much foreground as green; oracle: the blobs that were drawn."""
    root = layouts.bus_uclm(tmp_path)
    listing = DATASETS["bus-uclm"].list_cases(root)
    assert len({c.patient for c in listing.cases}) == 12
    assert Counter(c.label for c in listing.cases) == {"benign": 8, "malignant": 8, "normal": 8}
    for number, case in enumerate(listing.cases):
        drawn = layouts.blob(number) & (case.label != "normal")
        assert (read_mask(listing.root / case.masks[0]) == drawn).all()
    folder = root / "BUS-UCLM"
    (folder / "masks" / "ALAI_000.png").unlink()
    layouts.save(folder / "images" / "NEW_000.png", layouts.speckle(1))
    (folder / "INFO.csv").write_text(
        (folder / "INFO.csv").read_text().replace("ALAI_001.png;Benign", "ALAI_001.png;Odd")
    )
    assert faults_of("bus-uclm", root) == {
        "INFO.csv: ALAI_000": "missing",
        "images/ALAI_001.png": "label-unknown",
        "images/ALAI_000.png": "not-listed",
        "images/NEW_000.png": "not-listed",
    }


def test_kermany_tells_patient_and_cause_and_honours_the_split(tmp_path: Path) -> None:
    root = layouts.kermany(tmp_path)
    listing = DATASETS["kermany"].list_cases(root)
    assert Counter(c.split for c in listing.cases) == {"train": 24, "val": 12, "test": 12}
    assert len({c.patient for c in listing.cases}) == 24
    assert Counter(c.attributes["cause"] for c in listing.cases) == {"none": 24, "virus": 12, "bacteria": 12}
    layouts.save(root / "chest_xray" / "train" / "NORMAL" / "strange.jpeg", layouts.speckle(1))
    assert faults_of("kermany", root) == {"train/NORMAL/strange.jpeg": "patient-unknown"}


def test_lungs_tell_label_and_site_from_the_name(tmp_path: Path) -> None:
    """Masks by either of two names; one image has none."""
    folder = layouts.lungs(tmp_path)
    layouts.save(folder / "cxr" / "strange.png", layouts.speckle(5))
    layouts.save(folder / "masks" / "orphan.png", layouts.blob(5))
    listing = DATASETS["lungs"].list_cases(folder)
    assert Counter(c.label for c in listing.cases) == {"normal": 6, "tuberculosis": 6}
    assert {c.attributes["site"] for c in listing.cases} == {"Shenzhen", "Montgomery"}
    assert sum(bool(c.masks) for c in listing.cases) == 11
    assert "1 images have no mask" in listing.notes[0]
    assert {f.path: f.reason for f in listing.faults} == {
        "cxr/strange.png": "label-unknown",
        "masks/orphan.png": "no-image",
    }


def test_covid_reads_collections_whatever_the_case_of_the_names(tmp_path: Path) -> None:
    """The sheet says COVID-1 or NORMAL-1; files say Normal-1.png."""
    listing = DATASETS["covid-radiography"].list_cases(layouts.covid(tmp_path))
    assert listing.classes == ("COVID", "Normal", "Viral Pneumonia")
    assert len(listing.cases) == 18
    collections = {c.label: c.attributes["collection"] for c in listing.cases}
    assert collections["Normal"] == "https://collection.example/1"
    assert all(len(c.masks) == 1 for c in listing.cases)


def test_covid_without_masks_and_sheets(tmp_path: Path) -> None:
    """The other layout."""
    listing = DATASETS["covid-radiography"].list_cases(layouts.covid(tmp_path, masks=False, sheets=False))
    assert len(listing.cases) == 18
    assert not any(c.masks or c.attributes for c in listing.cases)
    assert not listing.faults


@pytest.mark.parametrize("content", [b"not a sheet", b"PK\x03\x04broken"])
def test_covid_refuses_a_broken_sheet(content: bytes, tmp_path: Path) -> None:
    """An expected error, not openpyxl's."""
    folder = layouts.covid(tmp_path)
    (folder / "COVID.metadata.xlsx").write_bytes(content)
    with pytest.raises(InputError, match="cannot be read as an Excel sheet"):
        DATASETS["covid-radiography"].list_cases(folder)


@pytest.mark.parametrize("masks", ["", "inside", "beside", "names"])
def test_class_folders_with_masks_anywhere(masks: str, tmp_path: Path) -> None:
    """Four ways to lay out the same data."""
    listing = DATASETS["folder"].list_cases(layouts.class_folders(tmp_path, masks=masks))
    assert listing.classes == ("a", "b")
    assert len(listing.cases) == 16
    assert all(bool(c.masks) == bool(masks) for c in listing.cases)
    assert not listing.faults


def test_folders_named_after_splits_are_honoured(tmp_path: Path) -> None:
    """Under several common names."""
    for name in ("Training", "valid", "test"):
        layouts.class_folders(tmp_path / name, n=2)
    listing = DATASETS["folder"].list_cases(tmp_path)
    assert Counter(c.split for c in listing.cases) == {"train": 4, "val": 4, "test": 4}
    assert listing.classes == ("a", "b")


def test_images_and_masks_without_classes(tmp_path: Path) -> None:
    """images/ and masks/: no labels; faults are found all the same."""
    for i in range(4):
        layouts.save(tmp_path / "images" / f"{i}.png", layouts.speckle(i))
        layouts.save(tmp_path / "masks" / f"{i + 1}.png", layouts.blob(i))
    listing = DATASETS["folder"].list_cases(tmp_path)
    assert listing.classes == ()
    assert [c.name for c in listing.cases] == ["images/1.png", "images/2.png", "images/3.png"]
    assert {f.path: f.reason for f in listing.faults} == {
        "images/0.png": "no-mask",
        "masks/4.png": "no-image",
    }
