import json

import numpy as np
import pytest

from gcsam_med.datasets.prepared import MANIFEST, PreparedDataset
from gcsam_med.errors import InputError
from gcsam_med.evaluation.context import open_evaluation
from tests.builders import make_prepared, make_run, reseal


@pytest.fixture
def run(tmp_path):
    dataset = make_prepared(tmp_path / "data", n=45)
    return make_run(tmp_path / "runs", dataset, "segmentation")


def edit_manifest(data_root, change):
    path = data_root / "prepared" / "toy" / MANIFEST
    table = PreparedDataset(path.parent).manifest
    change(table)
    table["has_mask"] = table["has_mask"].astype(int)
    table.to_csv(path, index=False)
    info = reseal(path.parent).info
    # As if the run had been trained on it.
    card = data_root.parent / "runs" / "run" / "model" / "model.json"
    content = json.loads(card.read_text()) | {"dataset_sha256": info.content_sha256}
    content.pop("seal", None)
    card.write_text(json.dumps(content))


def test_segmentation_takes_lesions_and_negatives_but_no_unknown_truth(run, tmp_path):
    """Oracle: the contract's rule of which rows take part, counted by hand."""

    def change(table):
        test_lesion = table.index[(table["split"] == "test") & (table["label"] == "benign")][0]
        table.loc[test_lesion, "has_mask"] = False

    edit_manifest(tmp_path / "data", change)
    context = open_evaluation(run, "test")
    labels = context.dataset.manifest["label"].to_numpy()[context.selection.rows]
    all_test = context.dataset.rows("test")
    assert context.selection.excluded == {"without a mask": 1}
    assert len(labels) == len(all_test) - 1
    assert (labels == "normal").sum() == (
        context.dataset.manifest["label"].to_numpy()[all_test] == "normal"
    ).sum()


def test_classification_takes_labels_the_model_knows(tmp_path):
    """Oracle: counted by hand."""
    dataset = make_prepared(tmp_path / "data", n=45)
    run = make_run(tmp_path / "runs", dataset, "classification", classes=("benign", "malignant"))
    edit_manifest(
        tmp_path / "data",
        lambda t: t.__setitem__(
            "label", t["label"].mask(t["case_id"] == t["case_id"][t["split"] == "test"].iloc[0], "")
        ),
    )
    context = open_evaluation(run, "test")
    assert set(context.dataset.manifest["label"].to_numpy()[context.selection.rows]) == {
        "benign",
        "malignant",
    }
    assert context.selection.excluded["without a label"] == 1
    assert context.selection.excluded["of a class the model does not know"] >= 2


@pytest.mark.parametrize(
    ("classes", "expected"),
    [(("benign", "malignant"), ("benign", "malignant")), (("malignant", "normal"), ("normal", "malignant"))],
)
def test_the_positive_class_comes_second(tmp_path, classes, expected):
    """Oracle: the rule, by hand; a class that is negative by the data set's word is not the positive one."""
    dataset = make_prepared(tmp_path / "data", n=30)
    run = make_run(tmp_path / "runs", dataset, "classification", classes=classes)
    context = open_evaluation(run, "test")
    assert context.classes == expected
    assert [context.model.card.classes[i] for i in context.order] == list(expected)


def test_a_data_set_prepared_anew_is_refused(run, tmp_path):
    """Oracle: the hash in the model's card; another content may have trained on what is test now."""
    reseal(tmp_path / "data" / "prepared" / "toy", folds=3)
    with pytest.raises(InputError, match="prepared anew"):
        open_evaluation(run, "test")
    external = open_evaluation(run, "test", dataset="toy")
    assert external.external
    assert external.home is None


def test_external_data_leave_the_run_s_own_data_known(run, tmp_path):
    """Oracle: the data set the run was trained on."""
    make_prepared(tmp_path / "data", n=30, name="other", seed=5)
    context = open_evaluation(run, "test", dataset="other")
    assert context.external
    assert context.home is not None
    assert context.home.info.name == "toy"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"split": "tset"}, "Unknown split"),
        ({"dataset": "nothing"}, "No prepared data set 'nothing'"),
        ({"dataset": "small"}, "those of 'small' have 16x16"),
        ({"dataset": "plain"}, "no masks"),
    ],
)
def test_what_does_not_fit_is_said(run, tmp_path, change, message):
    """Oracle: each fault named in the message."""
    make_prepared(tmp_path / "data", n=9, name="small", size=16)
    make_prepared(tmp_path / "data", n=9, name="plain", with_masks=False)
    with pytest.raises(InputError, match=message):
        open_evaluation(run, **{"split": "test", **change})


def test_an_empty_split_is_said(run, tmp_path):
    """Oracle: the message tells why no case is left."""
    edit_manifest(tmp_path / "data", lambda t: t.loc[:, "split"].replace("test", "train", inplace=False))
    edit_manifest(
        tmp_path / "data", lambda t: t.__setitem__("split", np.where(t["split"] == "test", "val", t["split"]))
    )
    with pytest.raises(InputError, match="no case to evaluate"):
        open_evaluation(run, "test")
