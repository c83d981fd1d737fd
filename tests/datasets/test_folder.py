"""Any folder: who is whose mask, which class and split; what can be read in two ways is refused.

Oracle of all: the test writes each image and its mask with one number in both, so that a wrong pair shows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gcsam_med.datasets import Listing
from gcsam_med.datasets.folder import list_cases
from gcsam_med.errors import InputError
from gcsam_med.images import read_image, read_mask
from tests.datasets.layouts import save, speckle


def write(root: Path, names: Callable[[int], tuple[str, str]], n: int = 12) -> Path:
    """Image i has i bright pixels in its first row, its mask i pixels in all."""
    for i in range(n):
        image, mask = names(i)
        pixels = speckle(i) // 2
        pixels[0, :] = 0
        pixels[0, : i + 1] = 255
        save(root / image, pixels)
        if mask:
            outline = np.zeros((40, 56), dtype=np.uint8)
            outline[20, : i + 1] = 255
            save(root / mask, outline)
    return root


def paired(root: Path, listing: Listing) -> int:
    """Count cases with a mask, and check by their pixels that it is theirs."""
    count = 0
    for case in listing.cases:
        if case.masks:
            assert len(case.masks) == 1
            number = int((read_image(root / case.image).grey[0] == 255).sum())
            assert read_mask(root / case.masks[0]).sum() == number, case
            count += 1
    return count


NAMES: dict[str, Callable[[int], tuple[str, str]]] = {
    "imgs beside masks": lambda i: (f"imgs/{i:03d}.png", f"masks/{i:03d}.png"),
    "image beside mask": lambda i: (f"image/{i:03d}.png", f"mask/{i:03d}.png"),
    "original beside GT": lambda i: (f"original/{i:03d}.png", f"GT/{i:03d}.png"),
    "upper case": lambda i: (f"Images/{i:03d}.png", f"Ground_Truth/{i:03d}.png"),
    "wrapped": lambda i: (f"set/part/Images/{i}.png", f"set/part/Segmentations/{i}_segmentation.png"),
    "tumor": lambda i: (f"{'ab'[i % 2]}/case{i:03d}.png", f"{'ab'[i % 2]}/case{i:03d}_tumor.png"),
    "STU": lambda i: (f"Hospital/Test_Image_{i}.png", f"Hospital/mask_{i}.png"),
    "prefix": lambda i: (f"Images/bus_{i:04d}-l.png", f"Masks/mask_{i:04d}-l.png"),
    "words": lambda i: (f"{i} Benign Image.bmp", f"{i} Benign Mask.tif"),
    "patients": lambda i: (f"ab{i % 2}/p{i}/image.png", f"ab{i % 2}/p{i}/image_mask.png"),
    "patients in two trees": lambda i: (f"images/p{i}/scan.png", f"labels/p{i}/scan.png"),
    "split on one side": lambda i: (f"images/{('train', 'test')[i % 2]}/{i}.png", f"masks/{i}.png"),
    "class and split": lambda i: (
        f"{('train', 'test')[i // 2 % 2]}/{'ab'[i % 2]}/images/{i % 4}{i}.png",
        f"{('train', 'test')[i // 2 % 2]}/{'ab'[i % 2]}/masks/{i % 4}{i}.png",
    ),
    "same numbers in each class": lambda i: (
        f"{'ab'[i % 2]}/{i // 2}.png",
        f"masks/{'ab'[i % 2]}/{i // 2}.png",
    ),
    "hyphen": lambda i: (f"x/{i}.png", f"x/{i}-mask.png"),
    "browser's copy": lambda i: (f"x/{i}.png", f"x/{i}_mask (1).png"),
    "a suffix twice": lambda i: (f"images/{i}.bmp", f"masks/{i}.bmp.png"),
    "no separator": lambda i: (f"x/{i:03d}.png", f"x/{i:03d}mask.png"),
    "zeros in front": lambda i: (f"images/image_{i}.png", f"masks/mask_{i:03d}.png"),
    "points in names": lambda i: (f"images/1.2.840.{i}.png", f"masks/1.2.840.{i}.png"),
    "class folders of masks": lambda i: (
        f"{('benign', 'malignant')[i % 2]}/{i // 2}.png",
        f"{('benign', 'malignant')[i % 2]}_mask/{i // 2}.png",
    ),
    "split folders of masks": lambda i: (
        f"{('train', 'test')[i % 2]}_images/{i // 2}.png",
        f"{('train', 'test')[i % 2]}_masks/{i // 2}.png",
    ),
    "one image a folder": lambda i: (f"{'ab'[i // 6]}/p{i % 6}/img.png", f"{'ab'[i // 6]}/p{i % 6}/mask.png"),
    "a wrapping folder that says mask": lambda i: (f"Kvasir-SEG/images/{i}.png", f"Kvasir-SEG/masks/{i}.png"),
}


@pytest.mark.parametrize("names", NAMES)
def test_each_mask_finds_its_own_image(tmp_path: Path, names: str) -> None:
    """By pixel comparison; the pairing is said."""
    listing = list_cases(write(tmp_path, NAMES[names]))
    assert not listing.faults
    assert paired(tmp_path, listing) == len(listing.cases) == 12
    assert len({case.name for case in listing.cases}) == 12
    assert listing.notes[0].startswith("12 images, 12 masks paired with 12: ")


def test_several_masks_of_one_image_are_kept_together(tmp_path: Path) -> None:
    """x_mask, x_mask_1; leftMask and rightMask."""
    for mask in ("a/x_mask.png", "a/x_mask_1.png", "b/leftMask/y.png", "b/rightMask/y.png"):
        save(tmp_path / mask, np.eye(40, dtype=np.uint8) * 255)
    save(tmp_path / "a/x.png", speckle(1))
    save(tmp_path / "b/y.png", speckle(2))
    masks = {c.image: c.masks for c in list_cases(tmp_path).cases}
    assert masks == {
        "a/x.png": ("a/x_mask.png", "a/x_mask_1.png"),
        "b/y.png": ("b/leftMask/y.png", "b/rightMask/y.png"),
    }


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (
            lambda i: (f"images/{i // 2}_a.png", f"masks/{i // 2}_a_reader{i % 2}.png"),
            "has masks of several readers",
        ),
        (lambda i: (f"images/p{i % 2}/{i // 2}.png", f"masks/{i // 2}.png"), "belong to images/p0/0.png or"),
        (lambda i: (f"images/{i}.png", f"masks/x{'abcdefghijkl'[i]}.png"), "none has the name or the number"),
        (lambda i: (f"x/{i}.png", f"x/{i}_outline.png"), "'_outline' added and two values only"),
        (lambda i: ("", f"masks/{i}.png"), "holds no images, but 12 masks"),
        (lambda i: (f"images/{i + 1}.png", f"masks/{i}.png"), "numbered from 1, masks from 0"),
        (lambda i: (f"inputs/{i}.png", f"targets/{i}.png"), "files in targets have two values only"),
    ],
)  # fmt: skip
def test_what_can_be_read_in_two_ways_is_refused(
    tmp_path: Path, names: Callable[[int], tuple[str, str]], said: str
) -> None:
    """The error shows both readings and the options that settle it."""
    for i in range(12):
        image, mask = names(i)
        if image:
            save(tmp_path / image, speckle(i))
        save(tmp_path / mask, np.eye(40, dtype=np.uint8) * 255)
    with pytest.raises(InputError, match=said) as caught:
        list_cases(tmp_path)
    assert "--images" in caught.value.advice


BM = ("benign", "malignant")
CLASSES: dict[str, tuple[Callable[[int], str], tuple[str, ...], str]] = {
    "hospitals above": (lambda i: f"{'AB'[i % 2]}/{BM[i // 2 % 2]}/{i}.png", BM, "Classes are the folders"),
    "patients above": (lambda i: f"p{i // 2}/{BM[i // 2 % 2]}/{i}.png", BM, "Classes are the folders"),
    "patients below": (lambda i: f"{'ab'[i // 6]}/p{i % 6}/{i}.png", ("a", "b"), ""),
    "patients only": (lambda i: f"patient{i // 3}/{i}.png", (), "look like patients' folders"),
    "an image a folder": (lambda i: f"name{chr(97 + i)}/{i}.png", (), "look like patients' folders"),
    "numbers": (lambda i: f"{i % 2}/{i}.png", ("0", "1"), ""),
    "the word images": (lambda i: f"{BM[i % 2]} images/{i}.png", BM, ""),
    "spaces": (lambda i: f"{('benign', 'malignant', 'benign ')[i % 3]}/{i}.png", BM, "taken as one class"),
    "in file names": (lambda i: f"{BM[i % 2]} ({i}).png", (), "--label-regex '(?i)(benign|malignant)'"),
    "a year": (lambda i: f"{('train2017', 'val2017')[i % 2]}/{BM[i // 2 % 2]}/{i}.png", BM, ""),
}


@pytest.mark.parametrize("kind", CLASSES)
def test_the_level_of_classes_is_found_and_said(tmp_path: Path, kind: str) -> None:
    """Of several levels of folders; what else than the first is taken is said."""
    name, classes, said = CLASSES[kind]
    listing = list_cases(write(tmp_path, lambda i: (name(i), "")))
    assert listing.classes == classes
    assert said in " ".join(listing.notes)
    assert len(listing.cases) == 12


def test_classes_that_two_levels_could_tell_are_asked_for(tmp_path: Path) -> None:
    write(tmp_path, lambda i: (f"{'AB'[i % 2]}/{('cyst', 'solid')[i // 2 % 2]}/{i}.png", ""))
    with pytest.raises(InputError, match="folders A, B, or the folders cyst, solid"):
        list_cases(tmp_path)
    assert list_cases(tmp_path, label_regex="/(cyst|solid)/").classes == ("cyst", "solid")
    with pytest.raises(InputError, match="finds no class in 6 of 12 paths"):
        list_cases(tmp_path, label_regex="/(cyst)/")
    with pytest.raises(InputError, match="no regular expression"):
        list_cases(tmp_path, label_regex="(")


def test_two_kinds_of_masks_are_settled_by_a_pattern(tmp_path: Path) -> None:
    """Lung masks and infection masks of one image."""
    write(tmp_path, lambda i: (f"images/{i}.png", f"lung masks/{i}.png"))
    for i in range(12):
        save(tmp_path / "infection masks" / f"{i}.png", np.zeros((40, 56), dtype=np.uint8))
    with pytest.raises(InputError, match="has the masks"):
        list_cases(tmp_path)
    listing = list_cases(tmp_path, images="images/*", masks="lung masks/*.png")
    assert paired(tmp_path, listing) == 12
    assert {(f.path.split("/")[0], f.reason) for f in listing.unused} == {("infection masks", "not-chosen")}
    with pytest.raises(InputError, match="matches no image file"):
        list_cases(tmp_path, masks="lungs/*.png")


@pytest.mark.parametrize(("ending", "suffix"), [("_outline", "_outline"), ("_1", "_"), ("-roi2", "-roi")])
def test_an_unknown_suffix_is_taken_when_it_is_said(tmp_path: Path, ending: str, suffix: str) -> None:
    """The suffix that the refusal names, which leaves a number at the end out."""
    write(tmp_path, lambda i: (f"x/{i}.png", f"x/{i}{ending}.png"))
    with pytest.raises(InputError, match="masks, or images of their own") as refused:
        list_cases(tmp_path)
    assert f"--mask-suffix '{suffix}'" in refused.value.advice
    assert paired(tmp_path, list_cases(tmp_path, mask_suffix=suffix)) == 12


def test_a_folder_without_images_says_what_it_holds(tmp_path: Path) -> None:
    """Arrays; then links to folders, which are not followed."""
    (tmp_path / "volume.nii.gz").write_bytes(b"x")
    with pytest.raises(InputError, match=r"holds no images, but 1 \.nii\.gz files"):
        list_cases(tmp_path)
    (tmp_path / "benign").symlink_to(tmp_path.parent)
    with pytest.raises(InputError, match="benign are links to folders"):
        list_cases(tmp_path)


def test_a_mask_without_its_image_is_not_given_to_an_image_of_another_class(tmp_path: Path) -> None:
    """The image of the same name in a class that has no masks."""
    write(tmp_path, lambda i: (f"lesion/{i}.png", f"lesion/masks/{i}.png"))
    for i in range(4):
        save(tmp_path / "normal" / f"{i}.png", speckle(50 + i))
    (tmp_path / "lesion" / "2.png").unlink()
    listing = list_cases(tmp_path)
    assert {c.image for c in listing.cases if not c.masks} == {f"normal/{i}.png" for i in range(4)}
    assert [(f.path, f.reason) for f in listing.faults] == [("lesion/masks/2.png", "no-image")]


def test_names_in_two_spellings_of_unicode_meet(tmp_path: Path) -> None:
    """As one machine writes an accent and another: composed, and as a letter of its own."""
    write(
        tmp_path, lambda i: (f"images/{'abcdefghijkl'[i]}\u00e9.png", f"masks/{'abcdefghijkl'[i]}e\u0301.png")
    )
    assert paired(tmp_path, list_cases(tmp_path)) == 12


def test_a_few_two_valued_files_beside_their_image_are_named_as_unused(tmp_path: Path) -> None:
    """BrEaST's masks of other lesions: case022_other1.png."""
    write(tmp_path, lambda i: (f"case{i:03d}.png", f"case{i:03d}_tumor.png"))
    save(tmp_path / "case002_other1.png", np.eye(40, 56, dtype=np.uint8) * 255)
    listing = list_cases(tmp_path)
    assert paired(tmp_path, listing) == len(listing.cases) == 12
    assert [(f.path, f.reason) for f in listing.unused] == [("case002_other1.png", "unknown-mask")]


def test_every_image_file_is_accounted_for(tmp_path: Path) -> None:
    """Formats that Pillow reads under any of their names, DICOM without one; oracle: a walk of the folder."""
    kinds = ("jfif", "webp", "jpeg", "gif", "tif", "bmp", "jp2", "pgm", "png")
    for i, kind in enumerate(kinds * 2):
        path = tmp_path / "ab"[i % 2] / f"x{i}.{kind}"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(speckle(i)).save(path, **({"format": "JPEG"} if kind == "jfif" else {}))
    (tmp_path / "a" / "1.2.840.99").write_bytes(bytes(128) + b"DICM")
    (tmp_path / "a" / "notes.txt").write_text("no image")
    listing = list_cases(tmp_path)
    assert {c.image for c in listing.cases} == {
        p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.*") if p.name != "notes.txt"
    }
    assert listing.classes == ("a", "b")


@pytest.mark.parametrize("above", ["", "archive/chest_xray/"])
@pytest.mark.parametrize("order", ["{split}/{label}", "{label}/{split}"])
def test_split_and_class_at_any_depth(tmp_path: Path, above: str, order: str) -> None:
    """Splits above or below the classes, two names of one split, several wrapping folders."""
    for i, split in enumerate(("train", "train", "val", "valid", "test")):
        for label in ("NORMAL", "PNEUMONIA"):
            save(tmp_path / above / order.format(split=split, label=label) / f"{i}.png", speckle(i))
    listing = list_cases(tmp_path)
    assert listing.classes == ("NORMAL", "PNEUMONIA")
    assert Counter(c.split for c in listing.cases) == {"train": 4, "val": 4, "test": 2}
    assert not listing.faults


def test_images_beside_the_split_or_the_classes_are_not_dropped_in_silence(tmp_path: Path) -> None:
    write(tmp_path, lambda i: (f"{('train', 'test')[i % 2]}/a{i % 3}/{i}.png", ""))
    save(tmp_path / "more" / "1.png", speckle(1))
    listing = list_cases(tmp_path)
    assert [(f.path, f.reason) for f in listing.faults] == [("more/1.png", "no-split")]
    save(tmp_path / "train" / "1.png", speckle(1))
    with pytest.raises(InputError, match="1 images lie beside the class folders"):
        list_cases(tmp_path)


def test_class_names_that_differ_in_case_are_one_class_and_it_is_said(tmp_path: Path) -> None:
    for split, label in (
        ("train", "Benign"),
        ("train", "Malignant"),
        ("test", "benign"),
        ("test", "Malignant"),
    ):
        for i in range(3 if split == "train" else 2):
            save(tmp_path / split / label / f"{i}.png", speckle(i))
    listing = list_cases(tmp_path)
    assert listing.classes == ("Benign", "Malignant")
    assert listing.notes == ("The folders Benign and benign are taken as one class, Benign.",)


def test_a_healthy_class_needs_no_masks_whatever_its_spelling(tmp_path: Path) -> None:
    write(tmp_path, lambda i: (f"Benign/{i}.png", f"Benign/masks/{i}.png"))
    write(tmp_path, lambda i: (f"Normal/{i}.png", ""))
    (tmp_path / "Benign" / "masks" / "3.png").unlink()
    listing = list_cases(tmp_path)
    assert Counter(c.label for c in listing.cases) == {"Benign": 11, "Normal": 12}
    assert [(f.path, f.reason) for f in listing.faults] == [("Benign/3.png", "no-mask")]
