import csv
import errno
import json
import os

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage
from sklearn import metrics as sk

from gcsam_med.errors import CheckpointError, InputError
from gcsam_med.evaluation import evaluate_run, evaluation_folder
from gcsam_med.evaluation.context import open_evaluation
from gcsam_med.reporting.figures import FIGURES
from gcsam_med.reporting.style import to_svg
from gcsam_med.reporting.write import metrics_json, write_report
from gcsam_med.runs import RunFolder
from gcsam_med.runs.calibration import load_calibration
from gcsam_med.training.calibration import calibrate_run
from tests.builders import copied_run, make_prepared, make_run, reseal, trained_runs

FAST = {"resamples": 200, "device": "cpu"}


@pytest.fixture(scope="module")
def segmentation(tmp_path_factory):
    run = copied_run(tmp_path_factory.mktemp("seg"), "segmentation")
    return run, evaluate_run(run, **FAST)


@pytest.fixture(scope="module")
def binary(tmp_path_factory):
    run = copied_run(tmp_path_factory.mktemp("bin"), "binary")
    return run, evaluate_run(run, **FAST)


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    run = copied_run(tmp_path_factory.mktemp("cls"), "classes")
    return run, evaluate_run(run, **FAST)


def test_calibration_is_told_as_tripod_asks(binary, tmp_path):
    """Oracle: the report's own cases; statsmodels' logistic regression with errors by group."""
    import statsmodels.api as sm

    _, report = binary
    truth = (report.cases["label"] == "malignant").to_numpy(float)
    odds = np.log(report.cases["prob_malignant"] / report.cases["prob_benign"]).to_numpy()
    fitted = sm.Logit(truth, sm.add_constant(odds)).fit(disp=0)
    assert report.metrics["calibration_slope"].value == pytest.approx(fitted.params[1], rel=1e-4)
    assert set(report.calibration.before) == {
        "brier", "log_loss", "ece", "calibration_slope", "calibration_intercept",
    }  # fmt: skip
    assert "temperature scaling on validation" in report.policy["decision_curve"]  # 16 cases there
    curve = report.curves["decision"]
    assert (curve["low"] <= curve["model"] + 1e-12).all()
    page = write_report(report, tmp_path)[0].read_text()
    assert "Calibration slope" in page
    assert f"{len(truth)} cases, {int(truth.sum())} malignant (prevalence {100 * truth.mean():.0f} %)" in page


def test_the_contract_s_files_and_names(segmentation, tmp_path):
    """Oracle: section 3 of the design, by name."""
    run, report = segmentation
    folder = evaluation_folder(report, run)
    assert folder == run / "evaluation" / "test"
    files = {str(p.relative_to(tmp_path)) for p in write_report(report, tmp_path)}
    assert {"report.html", "metrics.json", "cases.csv", "figures/dice.svg", "figures/dice.png"} <= files
    content = json.loads((tmp_path / "metrics.json").read_text())
    assert (content["schema"], content["task"], content["dataset"], content["split"]) == (
        1, "segmentation", "toy", "test",
    )  # fmt: skip
    assert content["n_cases"] == report.data.n_cases
    assert content["synthetic"] is True
    assert set(content["metrics"]["dice"]) >= {"value", "ci95", "n"}
    assert {"dice", "iou", "hd95", "nsd", "sensitivity", "specificity", "precision"} <= set(
        content["metrics"]
    )
    with (tmp_path / "cases.csv").open() as file:
        header = next(csv.reader(file))
    assert header[:7] == ["case_id", "group_id", "label", "dice", "iou", "hd95", "nsd"]


def test_metrics_are_those_of_the_masks_at_the_original_resolution(segmentation):
    """Oracle: Dice and IoU recomputed here from probabilities brought back to the original pixels."""
    run, report = segmentation
    context = open_evaluation(run, "test", device="cpu")
    threshold = report.operating.threshold
    expected = []
    for row in context.selection.rows:
        truth = context.dataset.original_mask(int(row))
        if not truth.any():
            continue
        square = context.model.probabilities(context.model.tensor(context.dataset.images([row])))[
            0, 0
        ].numpy()
        mask = context.dataset.geometry(int(row)).restore(square) >= threshold
        assert mask.shape == truth.shape
        expected.append(2 * (mask & truth).sum() / (mask.sum() + truth.sum()))
    assert report.metrics["dice"].value == pytest.approx(np.mean(expected), abs=1e-3)
    assert report.metrics["dice"].n == len(expected)
    low, high = report.metrics["dice"].ci95
    assert low < report.metrics["dice"].value < high


def test_a_trained_network_finds_lesions(segmentation):
    """Oracle: the toy lesions are dark on bright, so a little training must reach Dice above 0.6."""
    assert segmentation[1].metrics["dice"].value > 0.6


def test_normals_count_in_detection_and_not_in_dice(segmentation):
    """Oracle: decision 7 of the design; counted from the case table."""
    report = segmentation[1]
    normal = report.cases["label"] == "normal"
    assert report.cases.loc[normal, ["dice", "iou", "hd95", "nsd"]].isna().all(axis=None)
    assert report.metrics["dice"].n == (~normal).sum()
    assert report.metrics["false_positives_per_normal"].value == pytest.approx(
        report.cases.loc[normal, "false_positives"].mean()
    )


def test_small_regions_dropped_are_measured(tmp_path):
    """Oracle: SciPy's labels of the thresholded probabilities, half of whose regions are dropped."""
    run = copied_run(tmp_path, "segmentation")
    context = open_evaluation(run, "test", device="cpu")
    found = []
    for row in map(int, context.selection.rows):
        square = context.model.probabilities(context.model.tensor(context.dataset.images([row])))[
            0, 0
        ].numpy()
        regions, _ = ndimage.label(context.dataset.geometry(row).restore(square) >= 0.2, np.ones((3, 3)))
        found.append((regions, np.bincount(regions.ravel()), context.dataset.original_mask(row)))
    least = int(np.median(np.concatenate([area[1:] for _, area, _ in found]))) + 1
    expected = []
    for regions, area, truth in found:
        if truth.any():
            mask = (area >= least)[regions] & (regions > 0)
            expected.append(2 * (mask & truth).sum() / (mask.sum() + truth.sum()))
    report = evaluate_run(run, min_area=least, threshold=0.2, **FAST)
    measured = report.postprocessing[f"regions under {least} pixels dropped"]["dice"].value
    assert measured == pytest.approx(np.mean(expected), abs=1e-3)
    assert measured < report.metrics["dice"].value - 0.1
    with pytest.raises(InputError, match="is for segmentation; this run is for classification"):
        evaluate_run(copied_run(tmp_path / "other", "binary"), min_area=5, **FAST)


def test_missed_lesions_score_zero_and_are_said(tmp_path):
    """Oracle: at threshold 1 nothing is marked, so by the policy Dice is 0 and every lesion missed."""
    report = evaluate_run(copied_run(tmp_path, "segmentation"), threshold=1.0, **FAST)
    lesion = report.cases["label"] != "normal"
    assert (report.cases.loc[lesion, "dice"] == 0).all()
    assert (report.cases.loc[lesion, "missed"] == 1).all()
    assert report.metrics["missed_cases"].value == 1
    assert "missed" in {notice.key for notice in report.notices}
    assert {e.kind for e in report.gallery} == {"Missed lesions"}


def test_the_threshold_comes_from_validation_alone(tmp_path):
    """Oracle: other test images change no threshold and no temperature."""
    points = []
    for seed in (0, 1):
        folder = tmp_path / str(seed)
        dataset = make_prepared(folder / "data", n=120, classes=("benign", "malignant"))
        test = dataset.rows("test")
        store = np.lib.format.open_memmap(dataset.root / "images.npy", mode="r+")
        if seed:
            store[test] = 255 - store[test]
            store.flush()
        dataset = reseal(dataset.root)
        run = make_run(folder / "runs", dataset, "classification", steps=3)
        report = evaluate_run(run, **FAST)
        points.append(
            (report.operating.threshold, report.calibration.temperature, report.metrics["auc"].value)
        )
        assert report.operating.chosen_on == "validation"
    assert points[0][:2] == points[1][:2]
    assert points[0][2] != points[1][2]


def test_binary_metrics_agree_with_scikit_learn_on_the_case_table(binary):
    """Oracle: scikit-learn on cases.csv."""
    report = binary[1]
    truth = (report.cases["label"] == "malignant").to_numpy()
    prob = report.cases["prob_malignant"].to_numpy()
    call = prob >= report.operating.threshold
    assert (report.cases["predicted"] == np.where(call, "malignant", "benign")).all()
    expected = {
        "auc": sk.roc_auc_score(truth, prob),
        "auprc": sk.average_precision_score(truth, prob),
        "accuracy": sk.accuracy_score(truth, call),
        "balanced_accuracy": sk.balanced_accuracy_score(truth, call),
        "sensitivity": sk.recall_score(truth, call),
        "specificity": sk.recall_score(~truth, ~call),
        "f1": sk.f1_score(truth, call, zero_division=np.nan),
        "brier": sk.brier_score_loss(truth, prob),
    }
    for name, value in expected.items():
        assert report.metrics[name].value == pytest.approx(value), name
    assert report.confusion.tolist() == sk.confusion_matrix(truth, call).tolist()


def test_sensitivity_at_fixed_specificity_agrees_with_scikit_learn(binary):
    """Oracle: the highest point of scikit-learn's ROC curve with specificity of at least 0.9."""
    report = binary[1]
    truth = report.cases["label"] == "malignant"
    fpr, tpr, _ = sk.roc_curve(truth, report.cases["prob_malignant"], drop_intermediate=False)
    assert report.metrics["sensitivity_at_90_specificity"].value == pytest.approx(tpr[fpr <= 0.1].max())


def test_several_classes_agree_with_scikit_learn(three):
    """Oracle: scikit-learn's macro averages on cases.csv."""
    report = three[1]
    names = list(report.data.classes)
    truth, prob = report.cases["label"], report.cases[[f"prob_{n}" for n in names]].to_numpy()
    call = np.array(names)[prob.argmax(axis=1)]
    assert (report.cases["predicted"] == call).all()
    assert report.metrics["accuracy"].value == pytest.approx(sk.accuracy_score(truth, call))
    assert report.metrics["balanced_accuracy"].value == pytest.approx(sk.balanced_accuracy_score(truth, call))
    macro = sk.roc_auc_score(truth, prob / prob.sum(1, keepdims=True), multi_class="ovr", labels=names)
    assert report.metrics["auc"].value == pytest.approx(macro)
    assert set(report.per_class) == set(names)


def test_temperature_lowers_log_loss_where_it_was_fitted(tmp_path):
    """Oracle: the fit minimises log-loss on validation, so after cannot be above before there."""
    report = evaluate_run(copied_run(tmp_path, "binary"), "val", **FAST)
    calibration = report.calibration
    assert calibration.after["log_loss"].value <= calibration.before["log_loss"].value + 1e-6


def files_of(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("kind", ["segmentation", "binary"])
def test_the_model_s_own_threshold_is_used_and_nothing_in_it_is_written(tmp_path, kind):
    """Oracle: the bytes below RUN/model before; the threshold that stands in calibration.json."""
    run = copied_run(tmp_path, kind)
    before = files_of(run)
    report = evaluate_run(run, **FAST)
    after = files_of(run)
    assert set(after) - set(before) == {"evaluations.jsonl"}
    assert {name: after[name] for name in before} == before
    fitted = load_calibration(run / "model", report.model.weights_sha256)
    assert report.operating.threshold == fitted.threshold
    assert report.operating.transfer["validation"] == fitted.at_threshold
    assert load_calibration(run / "model", "of other weights", finished=False) is None
    with pytest.raises(CheckpointError, match="belongs to other weights"):
        load_calibration(run / "model", "of other weights")


def test_a_read_only_run_is_evaluated_and_said_not_to_be_counted(tmp_path, monkeypatch):
    """Oracle: the file system's refusal, as of a read-only drive."""
    run, real = copied_run(tmp_path, "binary"), os.open

    def refuse(path, flags, *rest, **more):
        if str(path).startswith(str(run)) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise OSError(errno.EROFS, "Read-only file system")
        return real(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", refuse)
    report = evaluate_run(run, **FAST)
    monkeypatch.undo()
    assert not RunFolder(run).evaluation_log_file.exists()
    assert "not-logged" in {notice.key for notice in report.notices}
    assert {p.name for p in write_report(report, tmp_path / "out")} >= {"report.html", "metrics.json"}


def test_an_unfinished_run_is_refused_unless_asked_for_and_stamped(tmp_path):
    """Oracle: no result.json, as while training runs or after Ctrl-C: exit code 2 and the way on."""
    run = copied_run(tmp_path, "segmentation")
    (run / "result.json").unlink()
    with pytest.raises(InputError, match="not finished") as refusal:
        evaluate_run(run, **FAST)
    assert "--unfinished" in refusal.value.advice
    report = evaluate_run(run, unfinished=True, **FAST)
    assert "unfinished" in {notice.key for notice in report.notices if notice.stamp}
    assert report.operating.threshold == 0.5
    with pytest.raises(InputError, match="not finished"):
        calibrate_run(run)


def test_a_model_without_calibration_is_refused_and_can_be_calibrated_anew(tmp_path):
    """Oracle: the bytes of the calibration that training left."""
    run = copied_run(tmp_path, "binary")
    path = run / "model" / "calibration.json"
    before = path.read_bytes()
    path.unlink()
    with pytest.raises(InputError, match="no calibration"):
        evaluate_run(run, **FAST)
    calibrate_run(run, device="cpu")
    assert path.read_bytes() == before


def test_metrics_repeat_and_evaluations_are_counted(tmp_path):
    """Oracle: the same command gives the same metrics; only time and the count of evaluations differ."""
    run = copied_run(tmp_path, "binary")
    first, second = (metrics_json(evaluate_run(run, **FAST)) for _ in range(2))
    assert first["metrics"] == second["metrics"]
    assert first["subgroups"] == second["subgroups"]
    keys = [{n["key"] for n in content["notices"]} for content in (first, second)]
    assert "test-set-reused" not in keys[0]
    assert "test-set-reused" in keys[1]
    assert len(RunFolder(run).evaluation_log_file.read_text().splitlines()) == 2


def test_subgroups_partition_the_cases(segmentation):
    """Oracle: every attribute's parts add up to all cases; Dice of a part is that of its cases."""
    report = segmentation[1]
    columns = {part.column for part in report.subgroups}
    assert columns == {"device", "birads"}
    for column in columns:
        assert sum(p.n for p in report.subgroups if p.column == column) == report.data.n_cases
    part = next(p for p in report.subgroups if (p.column, p.value) == ("device", "A"))
    manifest = pd.read_csv(trained_runs()["data"] / "prepared" / "toy" / "manifest.csv").set_index("case_id")
    mine = manifest.loc[report.cases["case_id"], "device"].to_numpy() == "A"
    assert part.estimates["dice"].value == pytest.approx(report.cases.loc[mine, "dice"].mean())


def test_every_metric_has_an_interval_or_a_reason(segmentation, binary, three):
    """Oracle: the promise that no number stands alone."""
    for _, report in (segmentation, binary, three):
        for name, estimate in report.metrics.items():
            assert estimate.ci95 is not None or estimate.reason, name
            assert estimate.method, name


def test_prevalence_gives_predictive_values_by_bayes(tmp_path):
    """Oracle: Bayes' theorem written out."""
    report = evaluate_run(copied_run(tmp_path, "binary"), prevalence=0.01, threshold=0.5, **FAST)
    sens, spec = report.metrics["sensitivity"].value, report.metrics["specificity"].value
    called = sens * 0.01 + (1 - spec) * 0.99
    found = report.metrics["ppv_at_prevalence"]
    assert found.value == pytest.approx(sens * 0.01 / called) if called else found.value is None


def test_stamps_name_what_limits_the_metrics(tmp_path):
    """Oracle: the notices' rules: synthetic, image-level split, the model's own training cases."""
    dataset = make_prepared(tmp_path / "data", n=60, group_kind="image")
    run = make_run(tmp_path / "runs", dataset, "segmentation")
    stamps = {n.key for n in evaluate_run(run, **FAST).notices if n.stamp}
    assert {"synthetic", "image-level-split", "research-only"} <= stamps
    stamps = {n.key for n in evaluate_run(run, "train", **FAST).notices if n.stamp}
    assert "training-cases" in stamps
    report = evaluate_run(run, "val", **FAST)
    stamp = next(n for n in report.notices if n.key == "validation-cases")
    assert stamp.stamp
    assert stamp.text.startswith("On these cases the epoch and the threshold of this model")
    healthy = [
        int((dataset.manifest["label"].iloc[dataset.rows(s)] == "normal").sum()) for s in ("train", "val")
    ]
    told = next(n.text for n in report.notices if n.key == "not-trained-on")
    assert f"{healthy[0]} without a lesion of {len(dataset.rows('train'))} in train" in told
    assert f"{healthy[1]} without a lesion of {len(dataset.rows('val'))} in val" in told


def test_images_trained_on_are_found_in_external_data(tmp_path):
    """Oracle: the external set is the training set under another name, so every image is known."""
    dataset = make_prepared(tmp_path / "data", n=60)
    make_prepared(tmp_path / "data", n=60, name="copy")
    run = make_run(tmp_path / "runs", dataset, "segmentation")
    report = evaluate_run(run, "train", dataset="copy", **FAST)
    notice = next(n for n in report.notices if n.key == "trained-on")
    assert notice.title == f"{report.data.n_cases} images were trained on"


def test_a_reader_is_compared_with_the_model(binary, tmp_path):
    """Oracle: scikit-learn, from the column of the manifest and the report's own cases.

    The column may be spelled in another way, as in the sheet it came from.
    """
    run, _ = binary
    report = evaluate_run(run, reader=("BI-RADS",), **FAST)
    (reader,) = report.readers
    manifest = pd.read_csv(trained_runs()["data"] / "prepared/toy/manifest.csv", dtype=str).set_index(
        "case_id"
    )
    rating = manifest.loc[report.cases["case_id"], "birads"].astype(int).to_numpy()
    truth = (report.cases["label"] == "malignant").to_numpy()
    assert reader.auc_reader.value == pytest.approx(sk.roc_auc_score(truth, rating))
    assert reader.auc_model.value == pytest.approx(sk.roc_auc_score(truth, report.cases["prob_malignant"]))
    assert reader.difference.value == pytest.approx(reader.auc_model.value - reader.auc_reader.value)
    assert reader.call_from == "4"
    called = (report.cases["predicted"] == "malignant").to_numpy()
    kappa = reader.agreement["the model's calls"]
    assert kappa.value == pytest.approx(sk.cohen_kappa_score(rating >= 4, called))
    sensitivity = {level: found.value for level, found, _ in reader.cuts}["4"]
    assert sensitivity == pytest.approx(sk.recall_score(truth, rating >= 4))
    files = write_report(report, tmp_path)
    page = files[0].read_text()
    assert "Calling from each rating on" in page
    assert "reader: birads" in to_svg(FIGURES["roc"].draw(report))
    content = json.loads((tmp_path / "metrics.json").read_text())
    assert content["readers"][0]["auc_reader"]["value"] == reader.auc_reader.value


@pytest.mark.parametrize(
    ("kind", "column", "said"),
    [
        ("binary", "birad", "Did you mean 'birads'? Known: birads."),
        ("binary", "device", "neither BI-RADS"),
        ("segmentation", "birads", "tells two classes apart"),
    ],
)
def test_a_column_that_is_no_reader_is_refused_before_the_split_is_used(kind, column, said, tmp_path):
    """Oracle: the message; the run's log of evaluations stays empty."""
    run = copied_run(tmp_path, kind)
    before = RunFolder(run).evaluations()
    with pytest.raises(InputError) as refused:
        evaluate_run(run, reader=(column,), **FAST)
    assert said in f"{refused.value.message} {refused.value.advice}"
    assert RunFolder(run).evaluations() == before
