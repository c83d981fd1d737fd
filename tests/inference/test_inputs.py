import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gcsam_med.errors import InputError
from gcsam_med.images import ImageFault
from gcsam_med.inference.inputs import MAX_NAME, find_inputs, safe_name


def touch(path, data=b"x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def names(*arguments):
    return [item.name for item in find_inputs([*arguments]).items]


def test_files_folders_patterns_and_archives(tmp_path):
    """Oracle: listed by hand; hidden files, folders of macOS and texts are no images."""
    for name in ("a.png", "b.JPG", "sub/c.tif", "sub/notes.txt", ".hidden.png", ".git/d.png"):
        touch(tmp_path / "in" / name)
    touch(tmp_path / "in" / "IM0001", b"\0" * 128 + b"DICM")
    touch(tmp_path / "in" / "README", b"text")
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.writestr("deep/e.bmp", b"x")
        archive.writestr("__MACOSX/deep/._e.bmp", b"x")
        archive.writestr("deep/readme.md", b"x")
    assert sorted(names(tmp_path / "in")) == ["IM0001", "a", "b", "c"]
    assert names(str(tmp_path / "in" / "*.png")) == ["a"]
    assert names(str(tmp_path / "in" / "**" / "*.tif")) == ["c"]
    assert names(tmp_path / "z.zip") == ["e"]
    assert find_inputs([tmp_path / "z.zip"]).items[0].load() == b"x"


def test_dicom_is_known_by_its_content_in_folders_and_archives(tmp_path):
    """Files named by UID, whose last number looks like a suffix, and .IMA; oracle: listed by hand."""
    content = b"\0" * 128 + b"DICM"
    written = ("1.2.826.0.1.3680043.10.999.1", "1.2.826.0.1.3680043.10.999.2", "IM000002.IMA", "x.dcm")
    with zipfile.ZipFile(tmp_path / "study.zip", "w") as archive:
        for name in written:
            touch(tmp_path / "study" / name, content)
            archive.writestr(name, content)
        touch(tmp_path / "study" / "1.2.3", b"text")
        archive.writestr("1.2.3", b"text")
    for source in ("study", "study.zip"):
        found = {item.label.rpartition("/")[2] for item in find_inputs([tmp_path / source]).items}
        assert found == set(written)


def test_what_predict_wrote_is_no_input(tmp_path):
    """Its own output inside the input, and that of a run before."""
    touch(tmp_path / "scans" / "a.png")
    for output in ("out", "before"):
        touch(tmp_path / "scans" / output / "masks" / "a.png")
        touch(tmp_path / "scans" / output / "overlays" / "a.png")
    touch(tmp_path / "scans" / "before" / "predictions.csv")
    found = find_inputs([tmp_path / "scans"], tmp_path / "scans" / "out")
    assert [item.name for item in found.items] == ["a"]


def test_a_file_given_twice_is_taken_once(tmp_path):
    """Oracle: counted by hand."""
    file = touch(tmp_path / "a.png")
    assert len(find_inputs([file, tmp_path, str(tmp_path / "*.png")]).items) == 1


def test_names_that_meet_become_longer_and_are_counted(tmp_path):
    """Oracle: by hand; upper and lower case meet on some file systems."""
    for name in ("x/a.png", "y/a.png", "y/a.jpg", "y/A.bmp", "y/b.png"):
        touch(tmp_path / "in" / name)
    found = find_inputs([tmp_path / "in"])
    assert found.renamed == 4
    assert len({item.name.casefold() for item in found.items}) == 5
    assert {"b", "in__x__a_png", "in__y__a_png", "in__y__a_jpg"} < {item.name for item in found.items}


@pytest.mark.parametrize(
    "member", ["../../evil.png", "/etc/evil.png", "C:\\Windows\\evil.png", "a/../../evil.png"]
)
def test_no_member_of_an_archive_leads_out(tmp_path, member):
    """Oracle: the name of its outputs is one part, without a way up."""
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.writestr(member, b"x")
        archive.writestr("b/evil.png", b"y")
    for item in find_inputs([tmp_path / "z.zip"]).items:
        assert not set("/\\:") & set(item.name)
        assert not item.name.startswith(".")
        assert (tmp_path / "out" / f"{item.name}.png").resolve().parent == (tmp_path / "out").resolve()


def test_a_bomb_is_refused_before_it_fills_the_memory(tmp_path, monkeypatch):
    """Oracle: the limit; a member that claims to be small and is not, and one that says how large it is."""
    monkeypatch.setattr("gcsam_med.inference.inputs.MAX_FILE_BYTES", 1000)
    with zipfile.ZipFile(tmp_path / "z.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", b"\0" * 100_000)
    (item,) = find_inputs([tmp_path / "z.zip"]).items
    with pytest.raises(ImageFault) as caught:
        item.load()
    assert caught.value.reason == "too-large"


def test_an_encrypted_or_broken_member_is_a_fault(tmp_path):
    """Oracle: a flipped byte breaks the member's CRC."""
    path = tmp_path / "z.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.png", b"some bytes here")
    data = bytearray(path.read_bytes())
    data[data.index(b"some bytes")] ^= 1
    path.write_bytes(data)
    with pytest.raises(ImageFault, match="cannot be read"):
        find_inputs([path]).items[0].load()


@pytest.mark.parametrize("argument", ["nowhere.png", "nowhere/*.png"])
def test_what_is_not_there_is_said(tmp_path, argument):
    """Oracle: the argument stands in the message."""
    with pytest.raises(InputError, match="nowhere"):
        find_inputs([tmp_path / argument])
    with pytest.raises(InputError, match="No images"):
        find_inputs([tmp_path])


@given(st.text(max_size=300))
def test_every_name_fits_every_file_system(text):
    """Oracle: what Windows, macOS and Linux forbid."""
    name = safe_name(text)
    assert name
    assert not set(name) & set('<>:"/\\|?*\0\n\r\t')
    assert not name.startswith((".", " "))
    assert len(f".{name}.png.tmp".encode()) < 255
    assert name.split(".")[0].upper() not in {"CON", "PRN", "AUX", "NUL", "COM1", "LPT9"}
    assert len(name) <= MAX_NAME + 20


def test_long_names_stay_apart():
    """Oracle: two names that differ beyond the cut."""
    assert safe_name("a" * 300 + "1") != safe_name("a" * 300 + "2")
