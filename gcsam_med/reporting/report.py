"""What an evaluation found, as plain data: everything a report shows, and nothing that needs a network.

Pictures and tables are made from these objects only, so a report can be written anew, or in another form,
without running the network again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd

from gcsam_med.metrics.estimate import Estimate

Estimates = Mapping[str, Estimate]


@dataclass(frozen=True)
class Subject:
    """The model under examination.

    Parameters
    ----------
    run : str
        Name of the run folder.
    model, optimizer : str
        Names in the tables of networks and optimizers.
    epoch : int
        Epoch (from 1) whose weights were kept.
    size : int
        Side of the network's input in pixels.
    parameters : int
        Number of trained values.
    trained_on : str
        Name of the data set it was trained on.
    synthetic : bool
        Whether it was trained on generated images.
    weights_sha256, tool_version : str
        Identity of the weights, and the version of gcsam-med that trained them.
    """

    run: str
    model: str
    optimizer: str
    epoch: int
    size: int
    parameters: int
    trained_on: str
    synthetic: bool
    weights_sha256: str
    tool_version: str


@dataclass(frozen=True)
class Material:
    """The data it was examined on.

    Parameters
    ----------
    name, title : str
        Name under ``prepared/`` and name for people.
    split : str
        ``train``, ``val`` or ``test``.
    external : bool
        Whether it is another data set than the one trained on.
    modality : str
        ``ultrasound``, ``xray`` or ``photo``.
    n_cases, n_groups : int
        Cases that take part, and the groups they belong to.
    group_kind : str
        What a group is: ``patient``, ``near-duplicate`` or ``image``.
    classes : mapping of str to int
        Cases of each class, in the order of the classes.
    excluded : mapping of str to int
        Cases of the split that do not take part, by reason.
    synthetic : bool
        Whether the images are generated.
    splits : mapping
        Cases by split and class of the whole data set, from its ``dataset.json``.
    mask_target : str
        What masks outline.
    licence, citation, sha256 : str
        From ``dataset.json``.
    """

    name: str
    title: str
    split: str
    external: bool
    modality: str
    n_cases: int
    n_groups: int
    group_kind: str
    classes: Mapping[str, int]
    excluded: Mapping[str, int]
    synthetic: bool
    splits: Mapping[str, Any]
    mask_target: str
    licence: str
    citation: str
    sha256: str


@dataclass(frozen=True)
class Notice:
    """Something the reader must know before using a number.

    Parameters
    ----------
    key : str
        Short name, e.g. ``"synthetic"``.
    title : str
        A few words.
    text : str
        One or two sentences: what is so, and what it does to the numbers.
    stamp : bool
        Whether it is shown as a stamp at the head of the report.
    """

    key: str
    title: str
    text: str
    stamp: bool = False


@dataclass(frozen=True)
class Operating:
    """The threshold from which a case (or a pixel) is called positive.

    Parameters
    ----------
    threshold : float
        On the probability of the positive class (or of foreground).
    rule : str
        How it was chosen, in words.
    chosen_on : str
        ``validation``, ``default`` or ``given``.
    n : int
        Cases it was chosen on.
    reason : str
        Why it was not chosen on validation, if it was not.
    transfer : mapping of str to mapping
        ``{"validation" | "test" | "test at 0.5": {figure: value}}``: what the threshold gives where it was
        chosen and where it is used.
    """

    threshold: float
    rule: str
    chosen_on: Literal["validation", "default", "given"]
    n: int
    reason: str = ""
    transfer: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)


@dataclass(frozen=True)
class Calibration:
    """Probabilities against frequencies, as the network gives them and after temperature scaling.

    Parameters
    ----------
    temperature : float or None
        Fitted on validation; None where there was none to fit it on.
    reason : str
        Why there is no temperature.
    before, after : mapping of str to Estimate
        Brier score, log-loss and ECE on the examined split.
    curve_before, curve_after : DataFrame
        Columns ``predicted, observed, low, high, n``: one row a bin of the reliability diagram.
    """

    temperature: float | None
    reason: str
    before: Estimates
    after: Estimates
    curve_before: pd.DataFrame
    curve_after: pd.DataFrame | None


@dataclass(frozen=True)
class Subgroup:
    """Figures of a part of the cases.

    Parameters
    ----------
    column, value : str
        Column of the manifest and its value in this part.
    n, n_groups : int
        Cases and groups.
    small : bool
        So few that its figures may mislead.
    estimates : mapping of str to Estimate
        The main figures.
    """

    column: str
    value: str
    n: int
    n_groups: int
    small: bool
    estimates: Estimates


@dataclass(frozen=True)
class Exhibit:
    """A case worth looking at.

    Parameters
    ----------
    kind : str
        ``worst``, ``best``, ``missed``, ``false positive``, ``confident error`` ...
    case_id, label : str
        Which case.
    caption : str
        What is to be seen, with its figures.
    image : ndarray of uint8, shape (H, W, 3)
        The picture with its drawing.
    alt : str
        The same in words.
    """

    kind: str
    case_id: str
    label: str
    caption: str
    image: np.ndarray
    alt: str


@dataclass(frozen=True)
class Report:
    """Everything an evaluation found.

    Parameters
    ----------
    task : {"segmentation", "classification"}
        What the model does.
    subject : Subject
        The model.
    material : Material
        The data.
    metrics : mapping of str to Estimate
        Named as in ``metrics.json``.
    per_class : mapping of str to mapping
        The same for each class.
    cases : DataFrame
        One row a case, columns as in ``cases.csv``.
    policy : mapping
        How each figure was taken: resolution, unit, tolerance, empty masks, threshold, intervals.
    operating : Operating
        The threshold.
    notices : tuple of Notice
        The weightiest first.
    curves : mapping of str to DataFrame
        ``roc``, ``pr``, ``decision`` (classification), ``sweep`` (segmentation).
    confusion : ndarray of int or None
        Classification: rows truth, columns call.
    calibration : Calibration or None
        Classification.
    subgroups : tuple of Subgroup
        By columns of the manifest.
    gallery : tuple of Exhibit
        Failures and successes.
    postprocessing : mapping of str to mapping
        Segmentation: what each option of `predict` would do to the main figures.
    history : DataFrame or None
        The training, a row an epoch.
    environment, config, audit : mapping
        Where and how it was trained, and what was found in the data.
    sharpness : mapping
        Content of ``sharpness.json``; empty where it was not measured.
    ledger : tuple of mapping
        Evaluations of this split so far, this one last.
    created : str
        UTC time in ISO form.
    evaluated_with : mapping
        Versions, device and seed of the evaluation itself.
    """

    task: Literal["segmentation", "classification"]
    subject: Subject
    material: Material
    metrics: Estimates
    per_class: Mapping[str, Estimates]
    cases: pd.DataFrame
    policy: Mapping[str, Any]
    operating: Operating
    notices: tuple[Notice, ...] = ()
    curves: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    confusion: np.ndarray | None = None
    calibration: Calibration | None = None
    subgroups: tuple[Subgroup, ...] = ()
    gallery: tuple[Exhibit, ...] = ()
    postprocessing: Mapping[str, Estimates] = field(default_factory=dict)
    history: pd.DataFrame | None = None
    environment: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    audit: Mapping[str, Any] = field(default_factory=dict)
    sharpness: Mapping[str, Any] = field(default_factory=dict)
    ledger: tuple[Mapping[str, Any], ...] = ()
    created: str = ""
    evaluated_with: Mapping[str, Any] = field(default_factory=dict)

    @property
    def main_metric(self) -> str:
        """The figure the summary opens with: dice, auc (two classes) or balanced_accuracy."""
        if self.task == "segmentation":
            return "dice"
        return "auc" if len(self.material.classes) == 2 else "balanced_accuracy"
