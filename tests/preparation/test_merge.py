"""Several prepared sets as one, and leaving out one of its centres."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gcsam_med.config import PrepareOptions
from gcsam_med.datasets.prepared import PreparedDataset, open_prepared
from gcsam_med.errors import InputError
from gcsam_med.preparation import merge, prepare
from tests.builders import make_prepared, reseal

SMALL = PrepareOptions(size=32, folds=3)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sets of demo images; three images of the first lie in the second, too, one of them mirrored."""
    from PIL import Image, ImageOps

    base = tmp_path_factory.mktemp("merge")
    for name, seed in (("one", 1), ("two", 2)):
        prepare("busi", data_root=base, options=SMALL, demo=True, demo_cases=30, name=name, seed=seed)
    sources = sorted(base.glob("demo/*/Dataset_BUSI_with_GT"))
    first, second = sources
    for number, path in enumerate(sorted((first / "normal").glob("normal (?).png"))[:3]):
        copy = second / "normal" / f"normal ({90 + number}).png"
        with Image.open(path) as image:
            (ImageOps.mirror(image) if number == 0 else image).save(copy)
        shutil.copyfile(path.with_name(f"{path.stem}_mask.png"), copy.with_name(f"{copy.stem}_mask.png"))
    prepare("busi", second, base, SMALL, name="two")
    return base


def test_merged_rows_are_those_of_the_sets(root: Path) -> None:
    """Oracle: the sets' own pixels and manifests; shared pictures, known here, are in one group each."""
    outcome = merge(["two", "one"], root, folds=3)
    whole, parts = outcome.dataset, [open_prepared(root, name) for name in ("one", "two")]
    assert outcome.fresh
    assert not merge(["one", "two"], root, folds=3).fresh
    assert whole.info.name == "one-and-two"
    assert len(whole) == sum(map(len, parts))
    start = 0
    for part in parts:
        rows = np.arange(start, start + len(part))
        own = np.arange(len(part))
        np.testing.assert_array_equal(whole.images(rows), part.images(own))
        np.testing.assert_array_equal(whole.masks(rows), part.masks(own))
        for row in own[:5]:
            np.testing.assert_array_equal(whole.original_mask(start + row), part.original_mask(row))
        table = whole.manifest.iloc[rows]
        assert list(table["label"]) == list(part.manifest["label"])
        assert set(table["centre"]) == {part.info.name}
        start += len(part)
    groups = whole.manifest.set_index("case_id")["group_id"]
    for number in range(3):
        copy = [case for case in groups.index if case == f"two-normal ({90 + number})"]
        assert (groups == groups[copy[0]]).groupby(groups.index.str[:3]).any().all()
    assert (whole.manifest.groupby("group_id")["split"].nunique() == 1).all()
    assert (
        outcome.audit["summary"]["near_duplicate_pairs"] + outcome.audit["summary"]["exact_duplicate_pairs"]
        >= 3
    )
    assert [row["cases"] for row in outcome.audit["centres"]] == list(map(len, parts))
    assert any("show one picture in two sets" in text for text in outcome.warnings)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"modality": "xray"}, "modality"),
        ({"positive_class": "benign"}, "positive class differs"),
        ({"positive_class": "", "negative_classes": ["normal", "malignant"]}, "negative in"),
        ({"mask_target": "lung"}, "masks of"),
    ],
)
def test_sets_that_contradict_each_other_are_refused(tmp_path: Path, changes: dict, said: str) -> None:
    """Oracle: the rule that one positive class, modality, size and kind of mask is needed."""
    make_prepared(tmp_path, name="one")
    other = make_prepared(tmp_path, name="two", seed=1)
    reseal(other.root, **changes)
    with pytest.raises(InputError, match=said):
        merge(["one", "two"], tmp_path)


def test_another_size_is_refused(tmp_path: Path) -> None:
    make_prepared(tmp_path, name="one")
    make_prepared(tmp_path, name="two", size=40)
    with pytest.raises(InputError, match="stored size 32"):
        merge(["one", "two"], tmp_path)


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    return make_prepared(tmp_path_factory.mktemp("toy"), n=30)


@given(data=st.data())
@settings(max_examples=60)
def test_a_left_out_centre_and_its_near_duplicates_are_never_trained_on(
    toy: PreparedDataset, data: st.DataObject
) -> None:
    """Oracle: sets of cases and groups, over random centres, groups across centres, splits and folds."""
    n = len(toy)
    column = lambda values: data.draw(st.lists(st.sampled_from(values), min_size=n, max_size=n))  # noqa: E731
    table = toy.manifest.assign(
        centre=column(["A", "B", "C"]),
        group_id=column([f"g{i}" for i in range(12)]),
        split=column(["train", "val", "test"]),
        fold=column([0, 1]),
    )
    table.loc[:2, "centre"] = ["A", "B", "C"]
    dataset = PreparedDataset.__new__(PreparedDataset)
    dataset.info, dataset.manifest = toy.info, table
    fold = data.draw(st.sampled_from([None, 0, 1]))
    for centre in ("A", "B", "C"):
        parts = {split: dataset.rows(split, fold, None, centre) for split in ("train", "val", "test")}
        of = {split: table.iloc[rows] for split, rows in parts.items()}
        assert set(parts["test"]) == set(np.flatnonzero(table["centre"] == centre))
        for split in ("train", "val"):
            assert not set(of[split]["group_id"]) & set(of["test"]["group_id"])
            assert not set(of[split]["centre"]) & {centre}
        assert not set(parts["train"]) & set(parts["val"])
        left = pd.concat(of.values())
        unused = table.drop(left.index)
        assert set(unused["group_id"]) <= set(of["test"]["group_id"])
