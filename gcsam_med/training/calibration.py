"""The end of training: threshold, temperature and references are fitted and written into the model folder.

The model is the one that is kept, of the best epoch. Threshold and temperature are fitted on the validation
split, the references (what training images are like) on the training split. Evaluation and prediction only
read them, so the same model always answers alike.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from gcsam_med.config import RunConfig
from gcsam_med.datasets.prepared import PreparedDataset, Split, open_prepared
from gcsam_med.datasets.selection import class_order, positive_class, select_cases
from gcsam_med.devices import pick_device
from gcsam_med.errors import InputError
from gcsam_med.files import locked
from gcsam_med.metrics.calibration import fit_logistic, fit_temperature
from gcsam_med.metrics.operating_point import (
    DEFAULT_THRESHOLD,
    best_dice_threshold,
    choose_threshold,
    dice_by_threshold,
    nearest_threshold,
)
from gcsam_med.metrics.summary import classification_metrics
from gcsam_med.metrics.table import shown_in
from gcsam_med.progress import Track, silent
from gcsam_med.runs import RunFolder, TrainedModel, load_model, network_outputs
from gcsam_med.runs.calibration import CalibrationFile, save_calibration
from gcsam_med.runs.references import (
    STATISTICS,
    FeatureReference,
    IntensityReference,
    fit_features,
    fit_intensities,
    image_statistics,
    save_features,
    save_intensities,
)

MIN_LESION_CASES, MIN_CASES, MIN_FOR_LOGISTIC = 5, 10, 20
# More training images than these would not move the references; for features each costs a forward pass.
MOST_FOR_INTENSITIES, MOST_FOR_FEATURES = 4000, 512


def calibrate_run(
    run_root: Path, *, data_root: Path | None = None, device: str = "auto", track: Track = silent
) -> CalibrationFile:
    """Fit a finished run's threshold, temperature and references anew, and write them to its model folder.

    Raises
    ------
    InputError
        If the run is not finished, or its data set is not there as it was.
    CheckpointError
        If the model is damaged.
    """
    run = RunFolder.open(run_root)
    if not run.finished:
        raise InputError(
            f"The run {run_root} is not finished: it has no {run.result_file.name}.",
            f"Finish it with: gcsam-med train --resume {run_root}",
        )
    with locked(run.lock_file, f"calibrating {run.root}"):
        model = load_model(run.model, pick_device(device))
        config = run.config_of(model.card)
        dataset = open_prepared(data_root or config.data_root, model.card.dataset)
        if dataset.info.content_sha256 != model.card.dataset_sha256:
            raise InputError(
                f"'{model.card.dataset}' was prepared anew since this run was trained: its content differs.",
                "Prepare it again from the same source with the same options, or name its folder with "
                "--data-root.",
            )
        return calibrate(run, model, config, dataset, track)


def calibrate(
    run: RunFolder, model: TrainedModel, config: RunConfig, dataset: PreparedDataset, track: Track = silent
) -> CalibrationFile:
    """Fit everything and write it; ``calibration.json`` last, each file whole or as it was."""
    intensities = _intensities(config, dataset)
    if intensities is not None:
        save_intensities(run.model, intensities)
    features = _features(model, config, dataset, track)
    if features is not None:
        save_features(run.model, features)
    fit = _segmentation if model.card.task == "segmentation" else _classification
    found = fit(model, config, dataset, track)
    save_calibration(run.model, found)
    return found


def _segmentation(
    model: TrainedModel, config: RunConfig, dataset: PreparedDataset, track: Track
) -> CalibrationFile:
    rows = select_cases(dataset, dataset.rows("val", *config.folds), "segmentation", config.classes).rows
    dice = []
    stream = network_outputs(model, dataset.images, rows, track=track, what="Choosing the threshold")
    for row, probability in stream:
        truth = dataset.original_mask(row)
        if truth.any():
            dice.append(dice_by_threshold(dataset.geometry(row).restore(probability), truth))
    n = len(dice)
    if n < MIN_LESION_CASES:
        return _file(model, n=n, reason=f"validation holds {n} lesion images, fewer than {MIN_LESION_CASES}")
    curves = np.array(dice)
    threshold = best_dice_threshold(curves)
    return _file(
        model,
        threshold=threshold,
        chosen=True,
        rule="highest mean Dice on validation, of 0.02 to 0.98 in steps of 0.02",
        n=n,
        at_threshold={"dice": float(curves[:, nearest_threshold(threshold)].mean())},
        dice_curve=curves.mean(axis=0).tolist(),
    )


def _classification(
    model: TrainedModel, config: RunConfig, dataset: PreparedDataset, track: Track
) -> CalibrationFile:
    names = model.card.classes
    rows = select_cases(dataset, dataset.rows("val", *config.folds), "classification", names).rows
    positive = positive_class(names, dataset.info)
    order = class_order(names, positive)
    stream = network_outputs(model, dataset.images, rows, track=track, what="Choosing the threshold")
    probabilities = np.array([p[list(order)] for _, p in stream], dtype=np.float64).reshape(-1, len(names))
    place = {names[column]: i for i, column in enumerate(order)}
    labels = np.array([place[name] for name in dataset.manifest["label"].to_numpy()[rows]], dtype=np.int64)
    n = len(rows)
    few = f"validation holds {n} cases, fewer than {MIN_CASES}" if n < MIN_CASES else ""

    temperature, why_not = None, few
    if not few:
        temperature = fit_temperature(labels, probabilities)
        if not 0.02 < temperature < 50:
            temperature = None
            why_not = "validation cannot determine it: all cases are predicted correctly, or all at chance"
    facts: dict[str, Any] = {"n": n, "temperature": temperature, "temperature_reason": why_not}
    if len(names) != 2:
        return _file(model, rule="the likeliest class is called", reason="more than two classes", **facts)
    facts["positive_class"] = positive
    if n >= MIN_FOR_LOGISTIC:
        facts["logistic"] = fit_logistic(labels == 1, probabilities)
    threshold, rule = DEFAULT_THRESHOLD, "0.5, not chosen"
    if not few:
        try:
            threshold = min(choose_threshold(labels == 1, probabilities[:, 1]), 1.0)
            rule = "largest sensitivity + specificity on validation (Youden)"
        except InputError as error:
            few = error.message
    at = {}
    if n:
        names = shown_in("transfer", "classification")
        at = classification_metrics(labels, probabilities, threshold, names)[0]
    return _file(model, threshold=threshold, chosen=not few, rule=rule, reason=few, at_threshold=at, **facts)


def _file(model: TrainedModel, **facts: object) -> CalibrationFile:
    return CalibrationFile.model_validate(
        {
            "threshold": DEFAULT_THRESHOLD,
            "chosen": False,
            "rule": "0.5, not chosen",
            "weights_sha256": model.card.weights_sha256,
            "dataset_sha256": model.card.dataset_sha256,
        }
        | facts
    )


def _intensities(config: RunConfig, dataset: PreparedDataset) -> IntensityReference | None:
    """Summarise the intensities of the training images; None where they are too few."""
    parts = [_statistics(dataset, dataset.rows(split, *config.folds)) for split in ("train", "val")]
    return fit_intensities(parts[0], parts[1], dataset.info.content_sha256)


def _statistics(dataset: PreparedDataset, rows: np.ndarray) -> np.ndarray:
    if len(rows) > MOST_FOR_INTENSITIES:
        rows = np.random.default_rng(0).choice(rows, MOST_FOR_INTENSITIES, replace=False)
    found = [image_statistics(dataset.images([row])[0], dataset.geometry(int(row))) for row in rows]
    return np.array(found).reshape(len(rows), len(STATISTICS))


def _features(
    model: TrainedModel, config: RunConfig, dataset: PreparedDataset, track: Track
) -> FeatureReference | None:
    """Compute the network's feature vectors of the training images; None where these are too few."""
    from gcsam_med.networks.hooks import FeatureTap, find_feature_layer

    size = model.card.size
    example = model.tensor(np.zeros((1, size, size), dtype=np.uint8))
    place = find_feature_layer(model.network, model.card.task, example)
    tap = FeatureTap(model.network, place)
    vectors = []
    wanted: tuple[tuple[Split, int], ...] = (("train", MOST_FOR_FEATURES), ("val", MOST_FOR_FEATURES // 2))
    for split, most in wanted:
        rows = dataset.rows(split, *config.folds)
        if len(rows) > most:
            rows = np.sort(np.random.default_rng(0).choice(rows, most, replace=False))
        found = []
        starts = range(0, len(rows), 16)
        for start in track(starts, f"Features of {split} images", total=len(starts)):
            model.probabilities(model.tensor(dataset.images(rows[start : start + 16])))
            found.append(tap.take().cpu().numpy())
        vectors.append(np.concatenate(found) if found else np.empty((0, 1)))
    return fit_features(vectors[0], vectors[1], place, model.card.weights_sha256)
