"""Tables: what each column means, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gcsam_med.datasets.table import list_cases
from gcsam_med.errors import InputError
from tests.datasets import layouts


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i in range(4):
        layouts.save(tmp_path / f"i{i}.png", layouts.speckle(i))
        layouts.save(tmp_path / f"m{i}.png", layouts.blob(i))
    return tmp_path


def write(folder: Path, text: str) -> Path:
    path = folder / "table.csv"
    path.write_text(text, encoding="utf-8-sig")
    return path


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_columns_become_what_they_mean(delimiter: str, folder: Path) -> None:
    """Several masks with ; between them (quoted where ; is the delimiter); further columns are attributes."""
    rows = [
        ("image", "mask", "label", "group", "split", "age"),
        ("i0.png", '"m0.png;m1.png"', "benign", "p1", "train", "-3"),
        ("i1.png", "", "malignant", "p2", "test", "61"),
        ("i2.png", "m2.png", "benign", "", "VAL", ""),
    ]
    path = write(folder, "\n".join(delimiter.join(row) for row in rows) + "\n")
    listing = list_cases(path)
    assert not listing.faults
    first, second, third = listing.cases
    assert (first.masks, first.patient, first.split, dict(first.attributes)) == (
        ("m0.png", "m1.png"), "p1", "train", {"age": "-3"}
    )  # fmt: skip
    assert (second.masks, third.split, third.patient) == ((), "val", "")
    assert listing.classes == ("benign", "malignant")
    assert "1 rows have no mask" in listing.notes[0]


def test_what_spreadsheets_make_of_a_table(folder: Path) -> None:
    """Capitals in the head, split names in words, labels in two spellings, rows of delimiters; all said."""
    text = "Image,Mask,Label,Split\ni0.png,m0.png,Benign,Training\n,,,\ni1.png,m1.png,benign,Validation\n"
    listing = list_cases(write(folder, text + "i2.png,m2.png,Benign,TEST\n,,,\n"))
    assert not listing.faults
    assert [(c.label, c.split) for c in listing.cases] == [
        ("Benign", "train"), ("Benign", "val"), ("Benign", "test")
    ]  # fmt: skip
    assert "The labels Benign and benign are taken as one, Benign." in listing.notes
    assert "The column Mask is taken as mask." in listing.notes


@pytest.mark.parametrize("head", ["filename,mask_path,diagnosis,MRN", "Image Index,seg,Class,Patient No."])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16"])
def test_columns_of_other_usual_names_are_taken_and_it_is_said(
    head: str, encoding: str, folder: Path
) -> None:
    """Numbers of patients may begin with 0, which stands for nobody elsewhere."""
    rows = [f"i{i}.png,m{i}.png,{'ab'[i % 2]},{i}" for i in range(4)]
    path = folder / "table.csv"
    path.write_bytes("\n".join([head, *rows, ""]).encode(encoding))
    listing = list_cases(path)
    assert [(c.image, c.masks, c.label) for c in listing.cases] == [
        (f"i{i}.png", (f"m{i}.png",), "ab"[i % 2]) for i in range(4)
    ]
    assert len({c.patient for c in listing.cases} - {""}) == 4
    assert not any(c.attributes for c in listing.cases)
    assert sum(" is taken as " in note for note in listing.notes) == 4


@pytest.mark.parametrize(
    ("image", "hint"),
    [("i1.png", "i/i1.png is; --images FOLDER"), ("i/i1", "i/i1.png is; write that"), ("i9.png", "there.$")],
)
def test_a_missing_image_that_lies_elsewhere_is_pointed_to(image: str, hint: str, tmp_path: Path) -> None:
    layouts.save(tmp_path / "i" / "i1.png", layouts.speckle(1))
    (fault,) = list_cases(write(tmp_path, f"image,label\n{image},a\n")).faults
    assert fault.reason == "missing"
    assert re.search(hint, fault.detail)


def test_two_images_never_share_a_mask(folder: Path) -> None:
    listing = list_cases(write(folder, "image,mask\ni0.png,m0.png\n,\ni1.png,./m1.png;m0.png\n"))
    assert [(f.path, f.reason) for f in listing.faults] == [("table.csv line 4", "mask-shared")]


def test_image_folder_elsewhere(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """--images."""
    path = write(tmp_path_factory.mktemp("tables"), "image\ni0.png\ni1.png\n")
    assert len(list_cases(path, folder).cases) == 2
    with pytest.raises(InputError, match="is not there"):
        list_cases(path, folder / "nowhere")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("../outside.png,benign,train,1", "outside"),
        ("/etc/passwd,benign,train,1", "outside"),
        ("C:\\scans\\a.png,benign,train,1", "outside"),
        ("sub/../../x.png,benign,train,1", "outside"),
        ("link.png,benign,train,1", "outside"),
        ("nowhere.png,benign,train,1", "missing"),
        (",benign,train,1", "no-path"),
        ("i1.png,NaN,train,1", "no-label"),
        ("i1.png,,train,1", "no-label"),
        ("i1.png,!!python/object:os.system,train,1", "bad-label"),
        ("i1.png,=1+1,train,1", "bad-label"),
        ("i1.png,benign,learning,1", "bad-split"),
        ("i1.png,benign,,1", "bad-split"),
        ("i1.png,benign,train,\"=HYPERLINK(\"\"http://x\"\")\"", "formula"),
        ("i1.png,benign,train,@SUM(A1)", "formula"),
        ("i0.png,benign,train,1", "listed-twice"),
    ],
)  # fmt: skip
def test_bad_rows_are_named_by_line(row: str, reason: str, folder: Path) -> None:
    """One fault each, and the good row stays."""
    outside = folder.parent / "outside.png"
    layouts.save(outside, layouts.speckle(9))
    (folder / "link.png").symlink_to(outside)
    listing = list_cases(write(folder, f"image,label,split,note\ni0.png,benign,train,1\n{row}\n"))
    assert [(f.path, f.reason) for f in listing.faults] == [("table.csv line 3", reason)]
    assert len(listing.cases) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read as a CSV file"),
        (b"\xff\xfe\x00broken", "cannot be read as a CSV file"),
        (b"what,label\na.png,b\n", "should have a column image; it has what, label"),
        (b"image,label,Label\na.png,b,c\n", "several columns label"),
        (b"image,class,diagnosis\na.png,b,c\n", "no column label; it could be class or diagnosis"),
        (b"image,label\n", "should have rows"),
        (b'image,label\n"unclosed,b\n' + b"x,y,z,w\n" * 3, "cannot be read as a CSV file"),
    ],
)
def test_files_that_are_no_table(content: bytes, message: str, folder: Path) -> None:
    """Expected errors, not pandas'."""
    path = folder / "table.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        list_cases(path)


def test_a_folder_with_one_table_will_do(folder: Path) -> None:
    """An archive of a table and its images is opened as a folder."""
    write(folder, "image\ni0.png\n")
    assert len(list_cases(folder).cases) == 1
    (folder / "second.csv").write_text("image\n")
    with pytest.raises(InputError, match="2 tables"):
        list_cases(folder)


def written(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    """A table of images that are there."""
    for i in range(4):
        layouts.save(folder / "img" / f"{i}.png", layouts.speckle(i))
        layouts.save(folder / "mask" / f"{i}.png", layouts.blob(i))
    path = folder / "cases.csv"
    path.write_bytes(text.encode(encoding))
    return path


def test_absolute_paths_are_taken_when_they_lie_in_the_image_folder(tmp_path: Path) -> None:
    """Oracle: the same table with relative paths; elsewhere the option is named."""
    rows = "".join(f"{tmp_path}/img/{i}.png,{tmp_path}/mask/{i}.png,{'ab'[i % 2]}\n" for i in range(4))
    path = written(tmp_path, "image,mask,label\n" + rows)
    listing = list_cases(path, str(tmp_path))
    assert [(c.image, c.masks) for c in listing.cases] == [
        (f"img/{i}.png", (f"mask/{i}.png",)) for i in range(4)
    ]
    elsewhere = list_cases(path, str(tmp_path / "img"))
    assert {f.reason for f in elsewhere.faults} == {"outside"}
    assert "--images" in elsewhere.faults[0].detail


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("utf-16", "image,label\nimg/0.png,größe\nimg/1.png,b\n"),
        ("cp1252", "image;label\nimg/0.png;größe\nimg/1.png;b\n"),
        ("utf-8-sig", "sep=;\r\nimage;label\r\nimg/0.png;größe\r\nimg/1.png;b\r\n"),
        ("utf-8", "image\tlabel\nimg/0.png\tgröße\nimg/1.png\tb\n"),
    ],
)
def test_tables_as_spreadsheets_write_them(tmp_path: Path, encoding: str, text: str) -> None:
    assert [c.label for c in list_cases(written(tmp_path, text, encoding)).cases] == ["größe", "b"]


def test_a_sheet_is_a_table(tmp_path: Path) -> None:
    written(tmp_path, "")
    layouts.sheet(
        tmp_path / "t.xlsx", [("image", "label", "age"), ("img/0.png", "a", 61), ("img/1.png", "b", None)]
    )
    cases = list_cases(tmp_path / "t.xlsx").cases
    assert [(c.label, c.attributes["age"]) for c in cases] == [("a", "61"), ("b", "")]


@pytest.mark.parametrize("column", ["patient_id", "PatientID", "Subject", "case", "Patient ID"])
def test_a_column_with_the_patient_is_taken_and_said(tmp_path: Path, column: str) -> None:
    """Placeholders are nobody's id."""
    people = ("P1", "P1", "NA", "unknown")
    rows = "".join(f"img/{i}.png,{person}\n" for i, person in enumerate(people))
    listing = list_cases(written(tmp_path, f"image,{column}\n{rows}"))
    assert [c.patient for c in listing.cases] == ["P1", "P1", "", ""]
    assert listing.notes[0].startswith(f"The column {column} is taken as the patient")
    assert listing.notes[1].startswith("2 rows name no patient")
    assert not listing.cases[0].attributes


def test_the_patient_column_can_be_named(tmp_path: Path) -> None:
    path = written(tmp_path, "image,patient_id,mother\nimg/0.png,1,7\nimg/1.png,2,7\n")
    assert [c.patient for c in list_cases(path, group_column="mother").cases] == ["7", "7"]
    with pytest.raises(InputError, match="no column 'father'"):
        list_cases(path, group_column="father")


def test_one_image_under_two_paths_and_what_is_missing_are_named(tmp_path: Path) -> None:
    (tmp_path / "img").mkdir()
    (tmp_path / "img" / "again.png").symlink_to("0.png")
    rows = "img/0.png,NA\nimg/./0.png,NA\nimg/again.png,\nimg/1.png,mask/9.png\nimg/7.png,mask/1.png\n"
    faults = list_cases(written(tmp_path, f"image,mask\n{rows}")).faults
    assert [f.reason for f in faults] == ["listed-twice", "listed-twice", "missing", "missing"]
    assert faults[0].detail == "line 2 names the same image."
    assert faults[2].detail == "the mask mask/9.png is not there."
    assert faults[3].detail == "the image img/7.png is not there."
