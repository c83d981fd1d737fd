"""The Python interface does what the commands do, with types, and costs nothing until it is used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import gcsam_med
from gcsam_med.config import PredictOptions
from gcsam_med.errors import ConfigError, InputError
from tests.builders import make_prepared, picture, trained_runs


def test_importing_the_package_loads_nothing():
    """Oracle: `sys.modules` of a process of its own; every name is listed all the same."""
    code = (
        "import sys, gcsam_med\n"
        "heavy = {'torch', 'numpy', 'pydantic'} & set(sys.modules)\n"
        "print(heavy, set(gcsam_med.__all__) <= set(dir(gcsam_med)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["set()", "True"]


def test_every_name_is_where_it_is_said_to_be():
    """Oracle: attribute access; a wrong name is refused as Python does."""
    assert all(getattr(gcsam_med, name) is not None for name in gcsam_med.__all__)
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        gcsam_med.lod  # noqa: B018


def test_the_marker_of_typed_packages_is_there():
    """Oracle: PEP 561; the wheel takes every file of the package's folder."""
    assert (Path(gcsam_med.__file__).parent / "py.typed").is_file()


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(picture("malignant", 50, 60, np.random.default_rng(1))[0]).save(path)
    return path


def test_a_loaded_segmentation_gives_what_predict_writes(image, tmp_path):
    """Oracle: the mask and the row that the command writes for the same file."""
    run = trained_runs()["segmentation"]
    result = gcsam_med.load(run, device="cpu").predict(image)
    assert isinstance(result, gcsam_med.Segmentation)
    done = gcsam_med.predict(run, str(image), tmp_path / "out", PredictOptions(device="cpu"))
    with Image.open(tmp_path / "out" / "masks" / "a.png") as mask:
        np.testing.assert_array_equal(np.asarray(mask) > 0, result.mask)
    with Image.open(tmp_path / "out" / "overlays" / "a.png") as drawn:
        np.testing.assert_array_equal(np.asarray(drawn), np.asarray(result.overlay()))
    (row,) = done.rows
    assert (row["area_px"], row["name"]) == (result.area_px, result.name)
    assert row["max_probability"] == pytest.approx(result.probability.max(), abs=1e-6)
    assert (result.threshold, result.area_mm2, result.disagreement) == (done.threshold, None, None)
    pixels = np.asarray(Image.open(image))
    for same in (pixels, np.stack([pixels] * 3, axis=2)):
        np.testing.assert_array_equal(gcsam_med.load(run, device="cpu").predict(same).mask, result.mask)


def test_a_loaded_classification_names_the_classes(image, tmp_path):
    """Oracle: the row that the command writes; the threshold decides between two."""
    run = trained_runs()["binary"]
    result = gcsam_med.load(run, device="cpu").predict(image)
    assert isinstance(result, gcsam_med.Classification)
    (row,) = gcsam_med.predict([run], [image], tmp_path / "out", PredictOptions(device="cpu")).rows
    assert row["predicted"] == result.predicted
    assert row["prob_malignant"] == pytest.approx(result.probabilities["malignant"], abs=1e-5)
    always = gcsam_med.load(run, device="cpu", threshold=0.0).predict(image)
    assert (always.predicted, always.threshold) == ("malignant", 0.0)
    several = gcsam_med.load(trained_runs()["classes"], device="cpu").predict(image)
    assert several.threshold is None
    assert sum(several.probabilities.values()) == pytest.approx(1, abs=1e-5)


def test_many_images_come_in_order_and_mistakes_are_told(image, tmp_path):
    """Oracle: each image alone; the messages."""
    model = gcsam_med.load(trained_runs()["segmentation"], device="cpu")
    rng = np.random.default_rng(4)
    arrays = [picture("benign", 40 + i, 60, rng)[0] for i in range(5)]
    found = list(model.predict_many(arrays, batch_size=2))
    for array, result in zip(arrays, found, strict=True):
        assert result.mask.shape == array.shape
        np.testing.assert_allclose(result.probability, model.predict(array).probability, atol=1e-4)
    assert "unet for segmentation" in repr(model)
    (tmp_path / "bad.png").write_text("x")
    wrong = [
        (lambda: model.predict(tmp_path / "bad.png"), "no image of a format"),
        (lambda: model.predict(tmp_path / "none.png"), "not there"),
        (lambda: model.predict(arrays[0].astype(float)), "uint8"),
        (lambda: model.predict(image, frame="all"), "one frame"),
        (gcsam_med.load, "needs a run"),
        (lambda: gcsam_med.load(tmp_path), "is not a run"),
        (
            lambda: gcsam_med.load(trained_runs()["binary"], threshold=2.0, device="cpu"),
            "--threshold: should be less",
        ),
        (lambda: gcsam_med.prepare("busi", data_root=tmp_path), "where the images of 'busi' are"),
        (gcsam_med.compare_optimizers, "either finished runs, or a data set"),
    ]
    for call, message in wrong:
        with pytest.raises(InputError, match=message):
            call()
    with pytest.raises(ConfigError, match="lr"):
        gcsam_med.train("toy", data_root=tmp_path, lr=-1.0)
    with pytest.raises(InputError, match="optimizer"):
        gcsam_med.train("toy", data_root=tmp_path, optimiser="adam")


def test_the_commands_follow_one_another(tmp_path):
    """Oracle: the files that the contract names; a study keeps the runs it has made."""
    make_prepared(tmp_path, n=60)
    settings = {"data_root": tmp_path, "epochs": 1, "device": "cpu", "seed": 3}
    result = gcsam_med.train("toy", output=tmp_path / "run", optimizer="adam", **settings)
    assert (result.folder, result.epochs) == (tmp_path / "run", 1)
    longer = gcsam_med.resume(result.folder, extend=True, epochs=2)
    assert longer.epochs == 2
    report = gcsam_med.evaluate(result.folder, resamples=100, device="cpu")
    assert (result.folder / "evaluation" / "test" / "report.html").is_file()
    assert 0 <= report.metrics["dice"].value <= 1


def test_a_study_is_made_and_compared(tmp_path):
    """Oracle: both recipes are in the comparison; finished runs give the same one."""
    make_prepared(tmp_path, n=60)
    found = gcsam_med.compare_optimizers(
        dataset="toy", optimizers=["adam", "gcsam"], seeds=[0], output=tmp_path / "study",
        resamples=100, data_root=tmp_path, epochs=1, device="cpu",
    )  # fmt: skip
    assert [arm.name for arm in found.arms] == ["adam", "gcsam"]
    assert (tmp_path / "study" / "comparison.html").is_file()
    runs = sorted((tmp_path / "study").rglob("config.yaml"))
    again = gcsam_med.compare_optimizers(
        [file.parent for file in runs], resamples=100, output=tmp_path / "again"
    )
    assert [arm.name for arm in again.arms] == ["adam", "gcsam"]


def test_demo_images_are_prepared(tmp_path):
    """Oracle: the count, and that they are stamped synthetic."""
    options = gcsam_med.PrepareOptions(folds=2, size=64)
    outcome = gcsam_med.prepare(
        "busi", data_root=tmp_path, options=options, demo=True, demo_cases=12, name="small", workers=0
    )
    assert outcome.dataset.info.n_cases == 12
    assert outcome.dataset.info.synthetic
