"""What a comparison of recipes found, as plain data; the counterpart of `gcsam_med.reporting.report`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from gcsam_med.metrics.intervals import Estimate
from gcsam_med.metrics.margins import ALPHA
from gcsam_med.reporting.report import Notice

MIN_SEEDS = 3  # for a verdict


@dataclass(frozen=True)
class ArmMetric:
    """A metric of an arm over its runs."""

    #: One for each run, in the order of the arm's runs; NaN where a run leaves it undefined.
    values: tuple[float, ...]
    #: mean, sd: Over the runs that define it; sd is NaN for a single one.
    mean: float
    sd: float


@dataclass(frozen=True)
class Cost:
    """What a run of an arm cost, as the mean over its runs."""

    #: epochs, steps: Trained.
    epochs: float
    steps: float
    passes: float  #: Gradient computations: forward and backward passes over a batch.
    minutes: float  #: Wall time of training without validation, on the machine that made the runs.


@dataclass(frozen=True)
class Arm:
    """One recipe of a comparison."""

    #: name, model, optimizer: What it is called, its network and its optimizer.
    name: str
    model: str
    optimizer: str
    runs: tuple[str, ...]  #: Names of its runs.
    replicates: tuple[tuple[int, int | None], ...]  #: Seed and fold of each run.
    metrics: Mapping[str, ArmMetric]  #: Named as in ``metrics.json``.
    #: Mean of the main metric over seeds; its interval covers variation between seeds and between cases.
    main: Estimate
    sd_seeds: float | None  #: What another seed changes in the main metric; None for a single run.
    cost: Cost  #: What a run cost.
    #: ``largest_eigenvalue``, ``trace`` and ``increase_within_rho``, where they were measured.
    sharpness: Mapping[str, ArmMetric] = field(default_factory=dict)
    lines: tuple[Mapping[str, Any], ...] = ()  #: Contents of ``sharpness.json`` with a line, for the drawing.


@dataclass(frozen=True)
class Try:
    """One try of a tuning."""

    settings: Mapping[str, float]  #: ``lr``, and ``rho`` where the arm has one.
    value: float | None  #: Main metric on validation.


@dataclass(frozen=True)
class Tuning:
    """How settings of an arm were chosen, on validation, by runs beside those that are compared."""

    #: model, arm: Whose settings.
    model: str
    arm: str
    metric: str  #: What was maximized.
    seed: int  #: Of all tries.
    tries: tuple[Try, ...]
    chosen: Mapping[str, float]
    passes: float  #: Gradient computations of all tries together.
    minutes: float  #: Wall time of all tries together.
    without: str | None = None  #: The centre that took no part, where one is left out.

    @property
    def value(self) -> float | None:
        """The metric of what was chosen."""
        return next((made.value for made in self.tries if made.settings == self.chosen), None)

    @property
    def at_edge(self) -> tuple[str, ...]:
        """The settings whose chosen value is the smallest or largest that was tried."""
        tried = {key: [made.settings[key] for made in self.tries] for key in self.chosen}
        return tuple(key for key, own in self.chosen.items() if own in (min(tried[key]), max(tried[key])))


@dataclass(frozen=True)
class NamedTest:
    """One test of one pair of arms."""

    method: str  #: Its name.
    question: str  #: What it tests, in a few words.
    difference: Estimate  #: Second arm minus first, in the unit the test counts in.
    #: p_value, p_holm: As it came, and corrected over all pairs that this test was made for.
    p_value: float | None
    p_holm: float | None
    #: effect, effect_name: Effect size, where the test has one.
    effect: float | None = None
    effect_name: str = ""


@dataclass(frozen=True)
class AgainstMargin:
    """Two arms against a margin: p values as they came, and corrected over all pairs of the comparison."""

    p_not_worse: float
    p_equivalent: float
    p_not_worse_holm: float | None = None
    p_equivalent_holm: float | None = None


@dataclass(frozen=True)
class Pair:
    """Two arms on the same cases."""

    #: model, first, second: Network, and names of the arms.
    model: str
    first: str
    second: str
    #: Second minus first in the main metric: mean over seeds, its interval covering seeds and cases.
    difference: Estimate
    #: p_value, p_holm: Of a difference of 0, and corrected over all pairs of the comparison.
    p_value: float | None
    p_holm: float | None
    sd_seeds: float | None  #: What another seed changes in the difference.
    by_seed: tuple[tuple[str, float], ...]  #: The difference for each seed (and fold) that both arms have.
    tests: tuple[NamedTest, ...]  #: Other ways to ask.
    effect: float | None  #: Cohen's d_z over cases, where a case has a value of its own.
    against_margin: AgainstMargin | None = None  #: Where a margin was named.
    #: True difference that would be shown with a power of 80 % at the strictest of Holm's levels.
    detectable: float | None = None

    @property
    def verdict(self) -> Literal["higher", "lower", "no difference shown", "not answerable"]:
        """Whether the second arm's metric is shown to differ, at 5 % after correction.

        One seed says nothing about variation between seeds, and with two a verdict was wrong in 9 to 10 % of
        simulated comparisons of equal recipes: it takes three.
        """
        if len(self.by_seed) < MIN_SEEDS:
            return "not answerable"
        if self.p_holm is None or self.p_holm >= 0.05 or self.difference.value is None:
            return "no difference shown"
        return "higher" if self.difference.value > 0 else "lower"

    @property
    def answer(self) -> Literal["equivalent", "not worse", "not shown", "not answerable"]:
        """What is shown against the margin, at one-sided 2.5 % after correction; it takes as many seeds."""
        found = self.against_margin
        if len(self.by_seed) < MIN_SEEDS or found is None:
            return "not answerable"
        if found.p_equivalent_holm is not None and found.p_equivalent_holm < ALPHA:
            return "equivalent"
        shown = found.p_not_worse_holm is not None and found.p_not_worse_holm < ALPHA
        return "not worse" if shown else "not shown"


@dataclass(frozen=True)
class StudySize:
    """What a study with so many seeds takes and shows; by question, ``not worse`` and ``equivalent``."""

    n_seeds: int
    needed: Mapping[str, int | None]  #: Groups of test cases for the margin; None: not reachable.
    now: Mapping[str, float]  #: Smallest margin that as many groups as the pilot's allow.


@dataclass(frozen=True)
class StudySizes:
    """How large a comparison has to be, from a pilot."""

    metric: str
    margin: float
    power: float  #: Wanted.
    basis: str  #: What the variances are of.
    variances: Mapping[str, float]  #: ``groups``, ``seeds`` and ``rest``, of the difference.
    #: n_groups, n_cases, group_kind: Of the pilot's test cases.
    n_groups: int
    n_cases: int
    group_kind: str
    rows: tuple[StudySize, ...]
    #: Groups and power of showing a difference of the margin, by number of seeds.
    curves: Mapping[int, tuple[tuple[int, float], ...]]


@dataclass(frozen=True)
class ComparedCase:
    """One case as each arm's first run answers it."""

    kind: str  #: ``largest gain``, ``largest loss`` or ``median``.
    #: case_id, label: Which case.
    case_id: str
    label: str
    pictures: tuple[tuple[str, np.ndarray, str], ...]  #: Name of the arm, uint8 picture, what it answered.


@dataclass(frozen=True)
class Comparison:
    """Everything a comparison found."""

    #: task, dataset, title, split: What was compared, and on which cases.
    task: Literal["segmentation", "classification"]
    dataset: str
    title: str
    split: str
    main_metric: str  #: ``dice``, ``auc`` or ``balanced_accuracy``.
    #: n_cases, n_groups: Cases that count in the main metric, and the groups they belong to.
    n_cases: int
    n_groups: int
    group_kind: str  #: What a group is.
    synthetic: bool  #: Whether the images are generated.
    arms: tuple[Arm, ...]  #: In the order of the plan, the reference first.
    pairs: tuple[Pair, ...]  #: Every two arms of one network.
    common: Mapping[str, Any]  #: Settings that all runs share.
    notices: tuple[Notice, ...]  #: What to know before using the numbers.
    looks: int  #: Evaluations of this split by these runs and their neighbours.
    versions: tuple[str, ...]  #: Versions of gcsam-med the runs were trained with.
    created: str  #: UTC time in ISO form.
    margin: float | None = None  #: Difference in the main metric below which arms count as equally good.
    margin_before: bool = True  #: Whether the margin was part of the plan before there were results.
    tuning: tuple[Tuning, ...] = ()  #: How the arms' settings were chosen, where they were tuned.
    #: Units, tolerance and positive class, from the policy of the evaluations.
    policy: Mapping[str, Any] = field(default_factory=dict)
    #: folders, shown_cases: Where the runs are, by name, and cases to look at. For the page only.
    folders: Mapping[str, Path] = field(default_factory=dict)
    shown_cases: tuple[ComparedCase, ...] = ()

    @property
    def shown(self) -> tuple[Pair, ...]:
        """Pairs with a difference shown."""
        return tuple(pair for pair in self.pairs if pair.verdict in ("higher", "lower"))

    def arms_of(self, model: str) -> tuple[Arm, ...]:
        """Arms of one network."""
        return tuple(arm for arm in self.arms if arm.model == model)

    @property
    def models(self) -> tuple[str, ...]:
        """The networks."""
        return tuple(dict.fromkeys(arm.model for arm in self.arms))


@dataclass(frozen=True)
class OverCentres:
    """One arm, or one pair of arms, over the centres that were left out in turn."""

    name: str
    values: Mapping[str, Estimate]  #: Main metric, or difference, by centre.
    mean: Estimate  #: Random-effects mean; undefined where fewer than two centres have an interval.
    prediction: tuple[float, float] | None  #: 95 % interval of the true value in a new centre.
    #: tau, i2: Standard deviation between centres, and share of the variance that is not chance.
    tau: float | None
    i2: float | None


@dataclass(frozen=True)
class CentreStudy:
    """A study that left out one centre after another."""

    #: title, task, main_metric: What was compared.
    title: str
    task: Literal["segmentation", "classification"]
    main_metric: str
    by_centre: Mapping[str, Comparison]  #: The comparison on each centre that was left out.
    arms: tuple[OverCentres, ...]
    pairs: tuple[OverCentres, ...]
    missing: tuple[str, ...]  #: Planned runs that are not there.
    synthetic: bool  #: Whether images of a centre are generated.
    created: str  #: UTC time in ISO form.
