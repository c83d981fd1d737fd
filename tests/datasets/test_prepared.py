"""A prepared data set on disk: read by row, and refused where its parts do not fit together."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gcsam_med.datasets.prepared import (
    IMAGES,
    INFO,
    MANIFEST,
    MASKS,
    ORIGINAL_MASKS,
    DatasetInfo,
    PreparedDataset,
    open_prepared,
)
from gcsam_med.errors import InputError
from tests.builders import make_prepared, reseal


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_prepared(tmp_path_factory.mktemp("data"), n=36, spacing="0.1x0.2")


@pytest.fixture
def folder(tmp_path):
    """A data set that the test may damage."""
    return make_prepared(tmp_path, n=30).root


@given(rows=st.lists(st.integers(0, 35), max_size=12))
@settings(max_examples=25, deadline=None)
def test_planes_are_read_by_row_in_any_order(dataset, rows):
    """Oracle: numpy.load of the same file."""
    for name, read in ((IMAGES, dataset.images), (MASKS, dataset.masks)):
        whole = np.load(dataset.root / name)
        found = read(rows)
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, whole[rows] if rows else whole[:0])


@pytest.mark.parametrize("row", [-1, 36])
def test_a_row_that_is_not_there_is_an_error(dataset, row):
    with pytest.raises(IndexError):
        dataset.images([row])


@pytest.mark.parametrize("fold", [None, 0, 1])
def test_splits_are_a_partition_and_folds_leave_the_test_set_alone(dataset, fold):
    """Oracle: the manifest's own columns."""
    parts = {split: dataset.rows(split, fold) for split in ("train", "val", "test")}
    together = np.concatenate(list(parts.values()))
    assert sorted(together) == list(range(len(dataset)))
    assert all((np.diff(rows) > 0).all() for rows in parts.values())
    table = dataset.manifest
    np.testing.assert_array_equal(parts["test"], np.flatnonzero(table["split"] == "test"))
    if fold is not None:
        assert set(table["fold"].iloc[parts["val"]]) == {fold}
        assert fold not in set(table["fold"].iloc[parts["train"]])


def test_rotating_test_folds_test_every_case_once(dataset):
    """Oracle: the manifest's own columns; with the test split as one more part, the parts are a partition."""
    table = dataset.manifest
    tested = []
    for test_fold in (None, 0, 1):
        parts = {split: dataset.rows(split, None, test_fold) for split in ("train", "val", "test")}
        assert sorted(np.concatenate(list(parts.values()))) == list(range(len(dataset)))
        groups = {split: set(table["group_id"].iloc[rows]) for split, rows in parts.items()}
        assert not groups["test"] & (groups["train"] | groups["val"])
        if test_fold is not None:
            assert set(table["fold"].iloc[parts["test"]]) == {test_fold}
            assert set(table["fold"].iloc[parts["val"]]) == {1 - test_fold}
            assert set(table["split"].iloc[parts["train"]]) == {"test"}
        tested += parts["test"].tolist()
    assert sorted(tested) == list(range(len(dataset)))
    with pytest.raises(InputError, match="both validate and test"):
        dataset.rows("train", 1, 1)


@pytest.mark.parametrize("fold", [-1, 2])
def test_a_fold_that_is_not_there_is_refused(dataset, fold):
    with pytest.raises(InputError, match="has folds 0 to 1"):
        dataset.rows("val", fold)


def test_a_case_is_told_as_the_manifest_has_it(dataset):
    assert dataset.labels([0, 1, 2, 3]).tolist() == [0, 1, 2, 0]
    assert dataset.spacing(0) == (0.1, 0.2)
    geometry = dataset.geometry(4)
    assert (geometry.height, geometry.width) == tuple(dataset.manifest[["height", "width"]].iloc[4])
    mask = dataset.original_mask(4)
    assert mask.dtype == bool
    np.testing.assert_array_equal(geometry.place_mask(mask), dataset.masks([4])[0])
    assert not dataset.original_mask(2).any(), "a normal case has no lesion"
    assert dataset.original_mask(2).shape == (dataset.geometry(2).height, dataset.geometry(2).width)


def test_texts_of_the_manifest_stay_texts(folder):
    """pandas would make a number of 007, and nothing of NA."""
    table = pd.read_csv(folder / MANIFEST, dtype=str, keep_default_na=False)
    table.loc[0, ["case_id", "group_id", "label"]] = ["007", "NA", ""]
    table.to_csv(folder / MANIFEST, index=False)
    dataset = reseal(folder)
    assert dataset.manifest.loc[0, ["case_id", "group_id"]].tolist() == ["007", "NA"]
    assert dataset.labels([0]).tolist() == [-1]
    assert dataset.spacing(0) is None


def test_a_data_set_travels_to_another_process(dataset):
    travelled = pickle.loads(pickle.dumps(dataset))
    np.testing.assert_array_equal(travelled.images([3, 1]), dataset.images([3, 1]))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_with_the_number_of_rows_read(tmp_path):
    """Oracle: the kernel's count of resident pages while 256 MiB pass by."""
    side, n = 512, 1024
    folder = make_prepared(tmp_path, n=30).root
    (folder / IMAGES).unlink()
    np.lib.format.open_memmap(folder / IMAGES, mode="w+", dtype=np.uint8, shape=(n, side, side)).flush()
    (folder / MASKS).unlink()
    table = pd.read_csv(folder / MANIFEST, dtype=str, keep_default_na=False)
    pd.concat([table] * 40)[:n].to_csv(folder / MANIFEST, index=False)
    dataset = reseal(folder, size=side, n_cases=n, has_masks=False)

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    dataset.images(range(8))
    before = resident()
    for start in range(0, n, 8):
        dataset.images(range(start, start + 8))
    assert resident() - before < 32 * 2**20


def test_masks_of_a_data_set_without_are_refused(tmp_path):
    dataset = make_prepared(tmp_path, n=30, with_masks=False)
    with pytest.raises(InputError, match="has no masks"):
        dataset.masks([0])


def edit_info(folder: Path, **values: object) -> None:
    info = json.loads((folder / INFO).read_text())
    info.update(values)
    (folder / INFO).write_text(json.dumps(info))


def edit_manifest(folder: Path, edit) -> None:
    edit(pd.read_csv(folder / MANIFEST, dtype=str, keep_default_na=False)).to_csv(
        folder / MANIFEST, index=False
    )


DAMAGES = {
    "no info": (lambda f: (f / INFO).unlink(), "dataset.json is not there"),
    "info is no JSON": (lambda f: (f / INFO).write_text("{"), "dataset.json is damaged"),
    "info lacks a field": (lambda f: (f / INFO).write_text("{}"), "does not fit at 'name'"),
    "info has a value that cannot be": (lambda f: edit_info(f, modality="mri"), "does not fit at 'modality'"),
    "no manifest": (lambda f: (f / MANIFEST).unlink(), "manifest.csv is not there"),
    "manifest of bytes": (
        lambda f: (f / MANIFEST).write_bytes(b"\xff\xfe\x00"),
        "manifest.csv is damaged",
    ),
    "manifest lacks a column": (lambda f: edit_manifest(f, lambda t: t.drop(columns="fold")), "lacks fold"),
    "manifest lacks a row": (lambda f: edit_manifest(f, lambda t: t[:-1]), "should have 30 rows.*has 29"),
    "height is no number": (lambda f: edit_manifest(f, lambda t: t.assign(height="x")), "in 'height'"),
    "unknown split": (lambda f: edit_manifest(f, lambda t: t.assign(split="dev")), r"splits \['dev'\]"),
    "no images": (lambda f: (f / IMAGES).unlink(), "images.npy is missing or damaged"),
    "images cut short": (
        lambda f: (f / IMAGES).write_bytes((f / IMAGES).read_bytes()[:-1]),
        "images.npy should",
    ),
    "images of another size": (
        lambda f: np.save(f / IMAGES, np.zeros((30, 16, 16), np.uint8)),
        "images.npy should hold",
    ),
    "images are no array": (lambda f: (f / IMAGES).write_bytes(b"PNG"), "images.npy is missing or damaged"),
    "images of floats": (lambda f: np.save(f / IMAGES, np.zeros((30, 32, 32))), "holds float64"),
    "images of objects": (
        lambda f: np.save(f / IMAGES, np.full((30, 32, 32), None), allow_pickle=True),
        "holds object",
    ),
    "images by column": (
        lambda f: np.save(f / IMAGES, np.asfortranarray(np.zeros((30, 32, 32), np.uint8))),
        "images.npy should",
    ),
    "no masks": (lambda f: (f / MASKS).unlink(), "masks.npy is missing"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_named_with_what_to_do(folder, damage):
    """Oracle: exit code 2, the file and the advice to prepare again; never a library's own error."""
    act, said = DAMAGES[damage]
    act(folder)
    with pytest.raises(InputError, match=said) as caught:
        PreparedDataset(folder)
    assert "prepare" in caught.value.advice


def test_a_file_that_shrinks_after_opening_is_noticed(folder):
    dataset = PreparedDataset(folder)
    (folder / IMAGES).write_bytes((folder / IMAGES).read_bytes()[:-10])
    with pytest.raises(InputError, match="was replaced while it was in use"):
        dataset.images([29])


def test_a_damaged_original_mask_is_named(folder):
    dataset = PreparedDataset(folder)
    path = folder / ORIGINAL_MASKS / "000000.png"
    Image.new("1", (3, 2)).save(path)
    with pytest.raises(InputError, match=r"000000.png is damaged: it should be .* but is \(2, 3\)"):
        dataset.original_mask(0)
    path.write_bytes(path.read_bytes()[:30])
    with pytest.raises(InputError, match="is damaged"):
        dataset.original_mask(0)
    path.write_bytes(b"GIF89a")
    with pytest.raises(InputError, match="is damaged"):
        dataset.original_mask(0)


def test_a_name_that_was_not_prepared_names_those_that_were(dataset, tmp_path):
    data_root = dataset.root.parent.parent
    assert len(open_prepared(data_root, "toy")) == 36
    with pytest.raises(InputError, match=r"No prepared data set 'busi'.*there: toy") as caught:
        open_prepared(data_root, "busi")
    assert "gcsam-med prepare --dataset busi" in caught.value.advice
    with pytest.raises(InputError, match="No prepared data set 'busi'"):
        open_prepared(tmp_path / "nowhere", "busi")


def test_the_info_is_written_as_it_is_read(dataset):
    """Oracle: the contract: the version's key is "schema"."""
    text = dataset.info.model_dump_json(by_alias=True)
    assert json.loads(text)["schema"] == 1
    assert DatasetInfo.model_validate_json(text) == dataset.info


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def swapped(column: str):
    """Exchange a cell of the first two rows."""

    def change(table):
        table.loc[[0, 1], column] = table.loc[[1, 0], column].to_numpy()
        return table

    return lambda f: edit_manifest(f, change)


SWAPS = {
    "a pixel": lambda f: flip(f / IMAGES, -1),
    "a pixel of a mask": lambda f: flip(f / MASKS, -1),
    "an original mask": lambda f: shutil.copyfile(
        f / ORIGINAL_MASKS / "000000.png", f / ORIGINAL_MASKS / "000001.png"
    ),
    "labels": swapped("label"),
    "groups": swapped("group_id"),
    "heights": swapped("height"),
    "positive class": lambda f: edit_info(f, positive_class="benign"),
    "group kind": lambda f: edit_info(f, group_kind="patient"),
}


@pytest.mark.parametrize("what", SWAPS)
@pytest.mark.parametrize("hidden", [False, True])
def test_data_that_are_not_those_of_prepare_are_refused(folder, what, hidden):
    """Oracle: each change by hand; if it hides behind its size and time, a deep check finds it."""
    times = {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}
    SWAPS[what](folder)
    if hidden:
        for path, time in times.items():
            os.utime(path, ns=(time, time))
    with pytest.raises(InputError, match=r"not what prepare wrote|was changed") as caught:
        PreparedDataset(folder, deep=hidden)
    assert "--force" in caught.value.advice


def test_a_copy_is_the_same_data_and_another_size_is_not(folder, tmp_path):
    """Oracle: the hash of the content; a copy has other times, its own dates and no other bytes."""
    copy = shutil.copytree(folder, tmp_path / "copy", copy_function=shutil.copyfile)
    assert PreparedDataset(copy).info == PreparedDataset(folder).info
    one, same, other = (
        make_prepared(tmp_path / name, n=30, size=size).info.content_sha256
        for name, size in (("a", 32), ("b", 32), ("c", 64))
    )
    assert one == same != other


def test_a_set_that_is_being_written_is_not_offered(folder, tmp_path):
    """A killed or running prepare keeps its half set under a hidden name."""
    shutil.copytree(folder, folder.with_name(".busi.tmp"))
    with pytest.raises(InputError) as caught:
        open_prepared(folder.parents[1], "busi")
    assert ".busi" not in caught.value.message
