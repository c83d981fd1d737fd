"""Every source lists its cases from its own layout and names what does not belong there."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np
import pytest

from gcsam_med.config import PrepareOptions
from gcsam_med.datasets import DATASETS, Listing
from gcsam_med.errors import Fault, InputError
from gcsam_med.images import decode_mask, find_images, read_mask
from gcsam_med.preparation import prepare
from gcsam_med.preparation.listing import account_for_all
from gcsam_med.preparation.scan import ScanJob, Scanned, scan_case
from tests.datasets import layouts


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_every_entry_says_what_people_need(name: str) -> None:
    """No part is missing: title, layout, and where data are public licence, citation, the finding."""
    spec = DATASETS[name]
    assert spec.title
    assert spec.layout
    if not spec.private:
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


TABLES = {"breast", "bus-uclm", "busbra", "gdph-sysucc", "nih-chestxray14", "rsna-pneumonia"} | {
    "siim-pneumothorax", "table", "udiat"
}  # fmt: skip
"""Sources whose tables list the images, so that a missing one is noticed."""
ARRAYS = {"breastmnist", "pneumoniamnist", "cifar10", "cifar100", "jsrt"}


def accounted(name: str, root: Path) -> tuple[Listing, set[str]]:
    """The listing as `prepare` sees it, and the image files that it does not speak of."""
    listing = account_for_all(DATASETS[name].list_cases(root))
    named = {path for c in listing.cases for path in (c.image, *c.masks)}
    named |= {fault.path for fault in (*listing.faults, *listing.unused)}
    return listing, {p.relative_to(listing.root).as_posix() for p in find_images(listing.root)} - named


@pytest.mark.parametrize("name", sorted(layouts.SOURCES))
def test_wrong_missing_and_extra_files_are_all_accounted_for(name: str, tmp_path: Path) -> None:
    """Oracle: a walk of the folder; a count before and after; the file that was spoiled."""
    root = layouts.SOURCES[name](tmp_path)
    if name in ARRAYS:
        pytest.skip("arrays, tested beside their reader")
    listing, left = accounted(name, root)
    assert not left
    first = next(c for c in listing.cases if c.raw is None)
    image = listing.root / first.image
    shutil.copy(image, image.with_name(f"stray-of-nobody{image.suffix}"))
    assert not accounted(name, root)[1]
    stray = listing.root / "stray.png"
    layouts.save(stray, layouts.speckle(77))
    if name == "folder":
        with pytest.raises(InputError, match="1 images lie beside the class folders, in the source itself"):
            accounted(name, root)
        stray.unlink()
    assert not accounted(name, root)[1]
    image.write_bytes(b"<html>not found</html>")
    job = ScanJob(listing.root, 32, 1, mask_size="resize", empty_mask_classes=("normal", "no pneumothorax"))
    found = scan_case(first, job)
    assert [fault.path for fault in found if isinstance(fault, Fault)] == [first.image]
    image.unlink()
    without, left = accounted(name, root)
    assert not left
    assert first.image not in {c.image for c in without.cases}
    if name in TABLES:
        assert {f.reason for f in without.faults} & {"missing", "not-listed"}
    if first.masks:
        assert set(first.masks) <= {f.path for f in (*without.faults, *without.unused)}


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
    assert case.spacing == (0.075, 0.075)
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
    prepared = prepare("gdph-sysucc", root, tmp_path / "data", PrepareOptions(size=32, folds=2)).dataset
    assert set(prepared.manifest["birads_reader2"]) == {"4b"}
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
    assert listing.notes[0].startswith("12 images are Doppler or combined ones")
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


def move(root: Path, old: str, new: str = "") -> None:
    """Rename a file, or remove it."""
    (root / old).replace(root / new) if new else (root / old).unlink()


def test_udiat_reads_types_and_grey_edges(tmp_path: Path) -> None:
    root = layouts.udiat(tmp_path)
    listing = DATASETS["udiat"].list_cases(root)
    assert Counter(c.label for c in listing.cases) == {"benign": 10, "malignant": 10}
    layouts.save(root / "original" / "000099.png", layouts.speckle(5))
    move(root, "GT/000001.png", "GT/000077.png")
    move(root, "original/000002.png")
    assert faults_of("udiat", root) == {
        "original/000001.png": "no-mask",
        "GT/000077.png": "no-image",
        "GT/000002.png": "no-image",
        "000002": "missing",
        "original/000099.png": "label-unknown",
    }


def test_buid_takes_images_and_masks_and_leaves_drawings(tmp_path: Path) -> None:
    root = layouts.buid(tmp_path)
    listing = DATASETS["buid"].list_cases(root)
    assert listing.cases[0].masks == ("Benign/1 Benign Mask.tif",)
    assert Counter(c.label for c in listing.cases) == {"benign": 10, "malignant": 10}
    assert {f.reason for f in listing.unused} == {"drawn-in"}
    assert len(listing.unused) == 20
    move(root, "Benign/1 Benign Mask.tif", "Benign/11 Benign Mask.tif")
    assert faults_of("buid", root) == {
        "Benign/1 Benign Image.bmp": "no-mask",
        "Benign/11 Benign Mask.tif": "no-image",
    }


def test_bus_uc_takes_each_image_once(tmp_path: Path) -> None:
    """All/ repeats the others; the same number in both classes is two images."""
    root = layouts.bus_uc(tmp_path) / "BUS_UC"
    listing = DATASETS["bus-uc"].list_cases(tmp_path)
    assert Counter(c.label for c in listing.cases) == {"benign": 10, "malignant": 10}
    assert len(listing.unused) == 40
    move(root, "Benign/masks/000.png")
    assert faults_of("bus-uc", tmp_path) == {"Benign/images/000.png": "no-mask"}


def test_curated_busi_reads_the_class_from_the_name(tmp_path: Path) -> None:
    root = layouts.busi_curated(tmp_path)
    listing = DATASETS["busi-curated"].list_cases(root)
    assert Counter(c.label for c in listing.cases) == {"benign": 7, "malignant": 7, "normal": 7}
    move(root, "images/benign_id_0.png", "images/strange.png")
    assert faults_of("busi-curated", root) == {
        "images/strange.png": "label-unknown",
        "masks/benign_id_0.png": "no-image",
    }


def test_nih_tells_the_target_from_the_rest(tmp_path: Path) -> None:
    """Oracle: the findings that the layout writes in turns, two images a patient."""
    root = layouts.nih(tmp_path)
    read = DATASETS["nih-chestxray14"].list_cases

    def count(target: str) -> dict[str, int]:
        return dict(Counter(c.label for c in read(root, target=target).cases))

    assert count("") == {"No Finding": 8, "finding": 16}
    assert count("pneumothorax") == {"no Pneumothorax": 16, "Pneumothorax": 8}
    assert count("Pneumothorax, No Finding") == {"No Finding": 8, "Pneumothorax": 8}
    listing = read(root, target="Pneumothorax,No Finding")
    assert (listing.positive, listing.negative) == ("Pneumothorax", ("No Finding",))
    assert Counter(f.reason for f in listing.unused) == {"other-finding": 8}
    assert len({c.patient for c in listing.cases}) == 8
    tests = {c.patient for c in read(root).cases if c.split == "test"}
    assert tests == {"3", "7", "11"}
    with pytest.raises(InputError, match="Pneumothoraxx"):
        read(root, target="Pneumothoraxx")
    move(root, "images_001/images/00000000_000.png", "images_001/images/00000099_000.png")
    names = {f.path: f.reason for f in read(root).faults}
    assert names == {
        "Data_Entry_2017_v2020.csv": "missing",
        "images_001/images/00000099_000.png": "not-listed",
    }


def test_rsna_tells_opacities_and_boxes(tmp_path: Path) -> None:
    root = layouts.rsna(tmp_path)
    read = DATASETS["rsna-pneumonia"].list_cases
    listing = read(root)
    assert Counter(c.label for c in listing.cases) == {"Lung Opacity": 6, "no Lung Opacity": 12}
    first = listing.cases[0]
    assert (first.patient, first.attributes["boxes"]) == ("p000", "3 5 8 9;20 5 8 9")
    assert len(read(root, target="Lung Opacity,Normal").cases) == 12
    table = root / "stage_2_train_labels.csv"
    table.write_text(table.read_text().replace("p001,,,,,0", "p001,1.0,2.0,3.0,4.0,1"))
    move(root, "stage_2_train_images/p002.dcm", "stage_2_train_images/other.dcm")
    assert faults_of("rsna-pneumonia", root) == {
        "stage_2_train_images/p001.dcm": "tables-differ",
        "stage_2_train_images/p002.dcm": "missing",
        "stage_2_train_images/other.dcm": "not-listed",
    }


def test_siim_reads_run_lengths(tmp_path: Path) -> None:
    """Oracle: the masks that the layout turned into run lengths."""
    root = layouts.siim(tmp_path)
    listing = DATASETS["siim-pneumothorax"].list_cases(root)
    assert Counter(c.label for c in listing.cases) == {"pneumothorax": 10, "no pneumothorax": 10}
    job = ScanJob(listing.root, 32, 1, empty_mask_classes=("no pneumothorax",))
    for number in (0, 1, 3):
        (found,) = scan_case(listing.cases[number], job)
        assert isinstance(found, Scanned)
        drawn = layouts.blob(number) & (number > 0)
        drawn |= layouts.blob(51) & (number == 1)
        np.testing.assert_array_equal(decode_mask(found.mask_png, "mask"), drawn)
    for runs in ("1 2 3", "1 x", "0 9999", "-3 5"):
        (fault,) = scan_case(replace(listing.cases[1], runs=(runs,)), job)
        assert isinstance(fault, Fault)
        assert fault.reason == "bad-runs"
    layouts.chest(root / "dicom-images-test" / "a.dcm", 9)
    move(root, "dicom-images-train/s0/t0/1.2.276.0.dcm")
    assert faults_of("siim-pneumothorax", root) == {"train-rle.csv: 1.2.276.0": "missing"}
    assert [f.path for f in DATASETS["siim-pneumothorax"].list_cases(root).unused] == [
        "dicom-images-test/a.dcm"
    ]


@pytest.mark.parametrize("name", ["siim-pneumothorax", "rsna-pneumonia"])
def test_the_patient_of_a_published_set_comes_from_its_dicom_files(name: str, tmp_path: Path) -> None:
    """Oracle: the ids written; two images of one patient share it, and nobody's id is none."""
    root = layouts.SOURCES[name](tmp_path)
    cases = DATASETS[name].list_cases(root).cases
    for case, patient in zip(cases, ("one", "one", "two", "ANONYMOUS"), strict=False):
        layouts.chest(root / case.image, 1, patient)
    empty = ("no pneumothorax", "no Lung Opacity")
    scanned = [scan_case(case, ScanJob(root, 32, 1, empty_mask_classes=empty))[0] for case in cases[:4]]
    found = [item.facts.patient for item in scanned if isinstance(item, Scanned)]
    assert found[0] == found[1] != found[2]
    assert all("one" not in patient for patient in found)
    assert found[3] == cases[3].patient  # RSNA's list names it
    assert "placeholder-patient" in scanned[3].facts.notes


def test_covid_qu_ex_takes_the_masks_of_its_target(tmp_path: Path) -> None:
    root = layouts.covid_qu_ex(tmp_path)
    read = DATASETS["covid-qu-ex"].list_cases
    for target in ("infection", "lung"):
        listing = read(root, target=target)
        assert Counter(c.split for c in listing.cases) == {"train": 24, "val": 24, "test": 24}
        assert {PurePosixPath(c.masks[0]).parent.name for c in listing.cases} == {f"{target} masks"}
        assert (listing.mask_target, len(listing.unused)) == (target, 72)
    with pytest.raises(InputError, match="heart"):
        read(root, target="heart")
    folder = "Infection Segmentation Data/Train/COVID-19"
    move(root, f"{folder}/images/COVID-19_0.png", f"{folder}/images/new.png")
    assert faults_of("covid-qu-ex", root) == {
        "Train/COVID-19/infection masks/COVID-19_0.png": "no-image",
        "Train/COVID-19/images/new.png": "no-mask",
    }
    more = tmp_path / "Lung Segmentation Data" / "Lung Segmentation Data" / "Train" / "COVID-19"
    for kind in ("images", "lung masks"):
        layouts.save(more / kind / "x.png", layouts.blob(1))
    assert [c.name for c in read(tmp_path, target="lung").cases] == ["x"]


def test_qata_finds_masks_patients_and_the_official_test(tmp_path: Path) -> None:
    root = layouts.qata(tmp_path)
    listing = DATASETS["qata-cov19"].list_cases(root)
    assert Counter(c.split for c in listing.cases) == {"": 20, "test": 4}
    assert Counter(c.patient for c in listing.cases if c.patient).most_common(1)[0][1] == 2
    folder = "QaTa-COV19-v2/Train Set/Ground-truths"
    move(root, f"{folder}/mask_covid_0.png", f"{folder}/mask_covid_99.png")
    assert faults_of("qata-cov19", root) == {
        "Train Set/Images/covid_0.png": "no-mask",
        "Train Set/Ground-truths/mask_covid_99.png": "no-image",
    }


def test_jsrt_reads_raw_words_and_tables(tmp_path: Path) -> None:
    """Oracle: the pictures before they were turned to white-is-zero words; SCR's two masks are one."""
    root = layouts.jsrt(tmp_path)
    listing = DATASETS["jsrt"].list_cases(root)
    assert Counter(c.label for c in listing.cases) == {"nodule": 6, "non-nodule": 6}
    assert listing.cases[0].attributes == {
        "subtlety": "3", "size_mm": "15", "age": "53", "sex": "male", "malignancy": "malignant"
    }  # fmt: skip
    (found,) = scan_case(listing.cases[0], ScanJob(listing.root, 48, 1, mask_size="resize"))
    assert isinstance(found, Scanned)
    assert np.abs(found.image.astype(int) - layouts.speckle(0, 48, 48)).max() <= 1
    assert found.facts.spacing == (2048 * 0.175 / 48,) * 2
    folder = root / "All247images"
    (folder / "JPCLN001.IMG").write_bytes(b"short")
    move(folder, "JPCNN002.IMG", "JPCNN099.IMG")
    move(root, "SCR/fold1/masks/left lung/JPCLN003.gif")
    assert faults_of("jsrt", root) == {
        "All247images/JPCLN001.IMG": "truncated",
        "All247images/JPCLN003.IMG": "half-mask",
        "All247images/JPCNN099.IMG": "not-listed",
        "JPCNN002.IMG": "missing",
        "SCR/fold2/masks/left lung/JPCNN002.gif": "no-image",
        "SCR/fold2/masks/right lung/JPCNN002.gif": "no-image",
    }


def test_montgomery_and_shenzhen_as_they_are_shipped(tmp_path: Path) -> None:
    """Left and right masks are united; without one of the two the image is a fault."""
    for i in range(2):
        name = f"MCUCXR_{i:04d}_{i}.png"
        layouts.save(tmp_path / "MontgomerySet" / "CXR_png" / name, layouts.speckle(i))
        for side in ("left", "right"):
            layouts.save(tmp_path / "MontgomerySet" / "ManualMask" / f"{side}Mask" / name, layouts.blob(i))
    layouts.save(tmp_path / "ChinaSet_AllFiles" / "CXR_png" / "CHNCXR_0001_0.png", layouts.speckle(9))
    layouts.save(tmp_path / "mask" / "CHNCXR_0001_0_mask.png", layouts.blob(9))
    cases = {c.name: c.masks for c in DATASETS["lungs"].list_cases(tmp_path).cases}
    assert [len(masks) for masks in cases.values()] == [1, 2, 2]
    (tmp_path / "MontgomerySet" / "ManualMask" / "leftMask" / "MCUCXR_0000_0.png").unlink()
    assert faults_of("lungs", tmp_path) == {"MontgomerySet/CXR_png/MCUCXR_0000_0.png": "half-mask"}


def test_medmnist_is_read_from_its_arrays(tmp_path: Path) -> None:
    """Labels and bytes as written; another file than the published one is said; damage is refused."""
    source = layouts.medmnist(tmp_path, "breastmnist")
    outcome = prepare("breastmnist", source, tmp_path / "data", size=28, folds=2)
    dataset = outcome.dataset
    assert dataset.info.counts["test"] == {"cases": 12, "benign or normal": 6, "malignant": 6}
    assert (dataset.info.positive_class, dataset.info.group_kind) == ("malignant", "near-duplicate")
    row = dataset.manifest["case_id"].tolist().index("val-00003")
    np.testing.assert_array_equal(dataset.images([row])[0], layouts.speckle(1003, 28, 28))
    assert dataset.manifest["label"][row] == "benign or normal"
    assert "MD5" in " ".join(outcome.warnings)
    with pytest.raises(InputError, match=r"holds breastmnist\.npz"):
        prepare("breastmnist", tmp_path, tmp_path / "data", name="again")
    np.savez(source, train_images=np.zeros((3, 28, 28)))
    with pytest.raises(InputError, match="should hold"):
        prepare("breastmnist", source, tmp_path / "data", name="again")


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
        layouts.save(tmp_path / "masks" / f"{i if i < 3 else 'other'}.png", layouts.blob(i))
    listing = DATASETS["folder"].list_cases(tmp_path)
    assert listing.classes == ()
    assert [c.name for c in listing.cases] == ["images/0.png", "images/1.png", "images/2.png"]
    assert {f.path: f.reason for f in listing.faults} == {
        "images/3.png": "no-mask",
        "masks/other.png": "no-image",
    }
