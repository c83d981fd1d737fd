"""Tables: what each column means, and what is refused."""

from __future__ import annotations

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


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
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
        ("i1.png,benign,training,1", "bad-split"),
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
        (b"picture,label\na.png,b\n", "should have rows and the columns image"),
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
    with pytest.raises(InputError, match="2 CSV files"):
        list_cases(folder)
