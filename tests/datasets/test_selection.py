"""Which class is positive, and which cases take part."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from gcsam_med.datasets import DATASETS
from gcsam_med.datasets.selection import class_order, positive_class, select_cases
from gcsam_med.errors import InputError
from tests.builders import make_prepared


@pytest.mark.parametrize(
    ("dataset", "classes", "positive", "negative"),
    [
        ("covid-radiography", ("COVID", "Normal"), "COVID", ("Normal",)),
        ("busi", ("benign", "malignant", "normal"), "malignant", ("normal",)),
        ("folder", ("Cancer", "Healthy"), "Cancer", ("Healthy",)),
        ("folder", ("NORMAL", "PNEUMONIA"), "PNEUMONIA", ("NORMAL",)),
        ("folder", ("Control", "case"), "case", ("Control",)),
        ("folder", ("No Finding", "Nodule"), "Nodule", ("No Finding",)),
        ("folder", ("Benign", "Malignant"), "Malignant", ()),
        ("folder", ("left", "right"), "", ()),
        ("cifar10", ("airplane", "bird", "cat"), "", ()),
    ],
)
def test_usual_names_say_which_class_is_the_finding(dataset, classes, positive, negative):
    """Oracle: by hand, what a clinician would say; where the names do not tell, nothing is guessed."""
    found = DATASETS[dataset].roles(classes)
    assert (found.positive, found.negative) == (positive, negative)
    # A lung is outlined in a normal radiograph too; a lesion is not.
    assert found.empty_masks == (() if dataset == "covid-radiography" else negative)
    if dataset == "folder":
        assert "--positive" in found.note


def test_what_is_said_beats_the_names_and_must_name_a_class():
    """Oracle: the options by hand."""
    spec = DATASETS["folder"]
    found = spec.roles(("Healthy", "left", "right"), "left", ["right"])
    assert (found.positive, found.negative) == ("left", ("Healthy", "right"))
    assert spec.roles(("a", "Normal"), positive="Normal").positive == "Normal"
    for healthy in ("nonCOVID", "no COVID", "Non-covid"):
        assert spec.roles(("COVID", healthy)).negative == (healthy,)
    with pytest.raises(InputError, match="Unknown class 'Cncer'") as error:
        spec.roles(("Cancer", "Healthy"), "Cncer")
    assert "Cancer" in error.value.advice
    with pytest.raises(InputError, match="both"):
        spec.roles(("Cancer", "Healthy"), "Cancer", ["Cancer"])


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("benign", "malignant"), "malignant"),
        (("malignant", "normal"), "malignant"),
        (("benign", "normal"), "benign"),
        (("benign", "malignant", "normal"), ""),
    ],
)
def test_the_positive_one_of_two_classes(tmp_path, names, expected):
    """Oracle: by hand, for classes a run may choose of BUSI's three."""
    info = make_prepared(tmp_path, n=9).info
    assert positive_class(names, info) == expected
    assert [names[i] for i in class_order(names, expected)][-1] == (expected or names[-1])


def test_a_positive_class_that_cannot_be_known_is_asked_for(tmp_path):
    """Oracle: exit code 2 and the option."""
    info = make_prepared(tmp_path, n=9, classes=("left", "right")).info
    with pytest.raises(InputError, match="'left' and 'right'") as error:
        positive_class(("left", "right"), info)
    assert "--positive" in error.value.advice


def test_training_and_evaluation_leave_out_what_they_say(tmp_path, monkeypatch):
    """Oracle: counted by hand in the manifest."""
    dataset = make_prepared(tmp_path, n=30)
    manifest, everyone = dataset.manifest, np.arange(30)
    lost = manifest.index[manifest["label"] == "benign"][0]
    manifest.loc[lost, "has_mask"] = False
    marked = manifest.index[manifest["label"] == "normal"][0]
    manifest.loc[marked, "has_mask"] = True
    # In one image of a healthy class something is outlined.
    monkeypatch.setattr(dataset, "masks", lambda rows: np.array(rows) == marked)
    training = select_cases(dataset, everyone, "segmentation", healthy=False)
    assert training.excluded == {"without a lesion": 9, "without a mask": 1}
    assert set(everyone) - set(training.rows) == {
        lost, *manifest.index[(manifest["label"] == "normal") & ~manifest["has_mask"]],
    }  # fmt: skip
    assert select_cases(dataset, everyone, "segmentation").excluded == {"without a mask": 1}
    chosen = select_cases(dataset, everyone, "segmentation", ["benign"], healthy=False)
    assert chosen.excluded == {"of a class the run leaves out": 20, "without a mask": 1}
    manifest.loc[0, "label"] = ""
    known = select_cases(dataset, everyone, "classification", ["benign", "malignant"])
    assert known.excluded == {"without a label": 1, "of a class the model does not know": 10}


@pytest.mark.parametrize("black_mask", [True, False])
def test_a_healthy_image_is_healthy_with_a_black_mask_and_without(black_mask):
    """Oracle: by hand; BUSI ships a black mask beside each normal image, other sets ship none."""
    manifest = pd.DataFrame({"label": ["benign", "normal"], "has_mask": [True, black_mask]})
    dataset = SimpleNamespace(
        manifest=manifest,
        info=SimpleNamespace(empty_mask_classes=["normal"], mask_target="lesion"),
        masks=lambda rows: np.zeros((len(rows), 8, 8), dtype=np.uint8),
    )
    rows = np.arange(2)
    learned = select_cases(dataset, rows, "segmentation", healthy=False)
    assert list(learned.rows) == [0]
    assert learned.excluded == {"without a lesion": 1}
    assert list(select_cases(dataset, rows, "segmentation").rows) == [0, 1]
