"""The sections of ``comparison.html``: what came out, at which cost, by which tests, and how to say so."""

from __future__ import annotations

import math
from collections.abc import Mapping

from gcsam_med.reporting.comparison import Arm, ArmFigure, Comparison, Pair
from gcsam_med.reporting.methods import ADAM, BCA, DELONG, GCSAM, OBUCHOWSKI, SAM
from gcsam_med.reporting.names import in_order, metric_name
from gcsam_med.reporting.page import Column, PageFigure, Part, Row, Section, Table
from gcsam_med.reporting.text import count, interval, number

SEARLE = "Searle, Casella, McCulloch. Variance Components. Wiley 1992."
HOLM = "Holm. A simple sequentially rejective multiple test procedure. Scand J Stat 6 (1979) 65-70."
WILCOXON = "Wilcoxon. Individual comparisons by ranking methods. Biometrics Bulletin 1 (1945) 80-83."
MCNEMAR = (
    "McNemar. Note on the sampling error of the difference between correlated proportions or percentages. "
    "Psychometrika 12 (1947) 153-157."
)

Figures = Mapping[str, PageFigure]


def comparison_sections(comparison: Comparison, figures: Figures) -> list[Section]:
    """Lay out everything a comparison found."""
    sections = [
        Section("results", "Results", _results(comparison, figures)),
        Section("differences", "Differences", _differences(comparison, figures)),
        Section("cost", "Cost", _cost(comparison, figures)),
    ]
    if any(arm.sharpness for arm in comparison.arms):
        sections.append(Section("sharpness", "Sharpness", _sharpness(comparison, figures)))
    sections += [
        Section("tests", "Other tests", _tests(comparison)),
        Section("runs", "Every run", _runs(comparison)),
        Section("methods", "Methods", _methods(comparison)),
    ]
    return sections


def p_text(p: float | None) -> str:
    """Write a p value as papers do."""
    if p is None:
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def signed(value: float | None) -> str:
    """Write a difference with its sign."""
    return number(value) if value is None or value <= 0 else f"+{number(value)}"


def pair_name(comparison: Comparison, pair: Pair) -> str:
    """Name a pair as second less first."""
    return (f"{pair.model}: " if len(comparison.models) > 1 else "") + f"{pair.second} − {pair.first}"


def arm_name(comparison: Comparison, arm: Arm) -> str:
    """Name an arm, with its network where there are several."""
    return f"{arm.model} {arm.name}" if len(comparison.models) > 1 else arm.name


def spread(figure: ArmFigure) -> str:
    """Write a mean with its standard deviation over runs."""
    if not math.isfinite(figure.mean):
        return "–"
    return number(figure.mean) + (f" ± {number(figure.sd)}" if math.isfinite(figure.sd) else "")


def _results(comparison: Comparison, figures: Figures) -> list[Part]:
    name = metric_name(comparison.main_metric, comparison.task).title
    columns = [
        Column("Arm", whole=True),
        Column("Runs", numeric=True),
        Column(f"{name}, mean", numeric=True),
        Column("95 % interval", numeric=True),
        Column("sd over seeds", numeric=True),
        Column("of it seed noise", numeric=True),
    ]
    rows = [
        Row(
            [
                arm_name(comparison, arm),
                str(len(arm.runs)),
                number(arm.main.value),
                interval(arm.main),
                _finite(arm.figures[comparison.main_metric].sd) if _has(arm, comparison) else "–",
                number(arm.sd_seeds),
            ]
        )
        for arm in comparison.arms
    ]
    keys = in_order(list(dict.fromkeys(k for arm in comparison.arms for k in arm.figures)))
    all_columns = [
        Column("Figure"),
        *(Column(arm_name(comparison, a), numeric=True) for a in comparison.arms),
    ]
    all_rows = [
        Row(
            [
                metric_name(key, comparison.task).title,
                *(spread(arm.figures[key]) if key in arm.figures else "–" for arm in comparison.arms),
            ],
            "main" if key == comparison.main_metric else "",
        )
        for key in keys
    ]
    return [
        Part(
            table=Table(f"{name} on the {comparison.split} split", columns, rows),
            figures=_pick(figures, "arms"),
        ),
        Part(table=Table("Every figure, mean ± standard deviation over runs", all_columns, all_rows)),
    ]


def _has(arm: Arm, comparison: Comparison) -> bool:
    return comparison.main_metric in arm.figures


def _differences(comparison: Comparison, figures: Figures) -> list[Part]:
    if not comparison.pairs:
        return [Part(paragraphs=["There is one arm only, so there is no difference to look at."])]
    columns = [
        Column("Pair", whole=True),
        Column("Difference", numeric=True),
        Column("95 % interval", numeric=True),
        Column("p", numeric=True),
        Column("p (Holm)", numeric=True),
        Column("sd over seeds", numeric=True),
        *([Column("d_z", numeric=True)] if any(p.effect is not None for p in comparison.pairs) else []),
        Column("Verdict"),
    ]
    rows = [
        Row(
            [
                pair_name(comparison, pair),
                signed(pair.difference.value),
                interval(pair.difference),
                p_text(pair.p_value),
                p_text(pair.p_holm),
                number(pair.sd_seeds),
                *([number(pair.effect)] if len(columns) == 8 else []),
                pair.verdict,
            ],
            "main" if pair in comparison.shown else "",
        )
        for pair in comparison.pairs
    ]
    seeds = list(dict.fromkeys(s for pair in comparison.pairs for s, _ in pair.by_seed))
    each = [
        Row([pair_name(comparison, pair), *(signed(dict(pair.by_seed).get(s)) for s in seeds)])
        for pair in comparison.pairs
    ]
    by_seed = Table(
        "Difference for each seed",
        [Column("Pair", whole=True), *(Column(f"seed {s}", numeric=True) for s in seeds)],
        each,
    )
    name = metric_name(comparison.main_metric, comparison.task).title
    text = (
        f"Differences in {name}, second arm less first, on the same cases and for the same seeds. The "
        "interval holds two sources of chance, other seeds and other patients; p is of the same model. "
        f"'Shown' means p below 0.05 after Holm's correction for {count(len(comparison.pairs), 'pair')}."
    )
    return [
        Part(
            paragraphs=[text],
            table=Table(f"Differences in {name}", columns, rows),
            figures=_pick(figures, "differences"),
        ),
        Part(table=by_seed),
    ]


def _cost(comparison: Comparison, figures: Figures) -> list[Part]:
    cheapest = min(arm.cost.passes for arm in comparison.arms) or 1.0
    columns = [
        Column("Arm", whole=True),
        Column("Epochs", numeric=True),
        Column("Steps", numeric=True),
        Column("Gradient computations", numeric=True),
        Column("of the cheapest", numeric=True),
        Column("Minutes a run", numeric=True),
    ]
    rows = [
        Row(
            [
                arm_name(comparison, arm),
                f"{arm.cost.epochs:.1f}",
                f"{arm.cost.steps:,.0f}",
                f"{arm.cost.passes:,.0f}",
                f"{arm.cost.passes / cheapest:.2f}",
                number(arm.cost.minutes),
            ]
        )
        for arm in comparison.arms
    ]
    text = (
        "A gradient computation is a forward and a backward pass over a batch, which is the same work on any "
        "machine. Minutes are wall time of training; they can be compared only if the runs had a machine of "
        "one kind to themselves."
    )
    return [
        Part(paragraphs=[text], table=Table("Cost of a run", columns, rows), figures=_pick(figures, "cost"))
    ]


def _sharpness(comparison: Comparison, figures: Figures) -> list[Part]:
    arms = [arm for arm in comparison.arms if arm.sharpness]
    columns = [
        Column("Arm", whole=True),
        Column("Runs", numeric=True),
        Column("Largest eigenvalue", numeric=True),
        Column("Trace", numeric=True),
        Column("Increase within rho", numeric=True),
    ]
    keys = ("largest_eigenvalue", "trace", "increase_within_rho")
    rows = [
        Row(
            [
                arm_name(comparison, arm),
                str(len(arm.sharpness["trace"].values)),
                *(spread(arm.sharpness[key]) for key in keys),
            ]
        )
        for arm in arms
    ]
    text = (
        "Of the training loss on a sample of training cases, at the weights that were kept. Runs stopped at "
        "different losses are compared here as they are; a lower loss alone changes sharpness."
    )
    return [
        Part(
            paragraphs=[text],
            table=Table("Sharpness, mean ± standard deviation over runs", columns, rows),
            figures=_pick(figures, "sharpness", "landscape"),
        )
    ]


def _tests(comparison: Comparison) -> list[Part]:
    columns = [
        Column("Pair", whole=True),
        Column("Test"),
        Column("Of"),
        Column("Difference", numeric=True),
        Column("95 % interval", numeric=True),
        Column("p", numeric=True),
        Column("p (Holm)", numeric=True),
        Column("Effect size", numeric=True),
    ]
    rows = [
        Row(
            [
                pair_name(comparison, pair),
                test.method,
                test.question,
                signed(test.difference.value),
                interval(test.difference),
                p_text(test.p_value),
                p_text(test.p_holm),
                "–" if test.effect is None else f"{number(test.effect)} ({test.effect_name})",
            ]
        )
        for pair in comparison.pairs
        for test in pair.tests
    ]
    text = (
        "The usual tests of two models on the same cases. They know the chance of the cases and not that of "
        "the seed: with several seeds they speak of these very runs, and their p may be smaller than the one "
        "above. The verdict does not rest on them."
    )
    return [Part(paragraphs=[text], table=Table("Paired tests", columns, rows))] if rows else []


def _runs(comparison: Comparison) -> list[Part]:
    name = metric_name(comparison.main_metric, comparison.task).title
    rows = [
        Row([run, arm_name(comparison, arm), str(seed), "–" if fold is None else str(fold), _finite(value)])
        for arm in comparison.arms
        for run, (seed, fold), value in zip(
            arm.runs, arm.replicates, arm.figures[comparison.main_metric].values, strict=True
        )
    ]
    columns = [
        Column("Run", whole=True),
        Column("Arm", whole=True),
        Column("Seed", numeric=True),
        Column("Fold", numeric=True),
        Column(name, numeric=True),
    ]
    settings = Table(
        "Settings that all runs share",
        [Column("Setting"), Column("Value")],
        [Row([k, "not set" if v is None else str(v)]) for k, v in comparison.common.items()],
    )
    return [
        Part(table=Table(f"{name} of every run", columns, rows)),
        Part(table=settings, folded="Show the settings that all runs share"),
    ]


def _methods(comparison: Comparison) -> list[Part]:
    name = metric_name(comparison.main_metric, comparison.task).title
    seeds = min(len(arm.runs) for arm in comparison.arms)
    arms = ", ".join(arm_name(comparison, arm) for arm in comparison.arms)
    unit = "cases" if comparison.n_groups == comparison.n_cases else f"{comparison.group_kind} groups"
    several = (
        "Differences were taken run by run between equal seeds and estimated as crossed random effects of "
        f"seed and of {unit} (method of moments, Satterthwaite's degrees of freedom)"
        if seeds > 1
        else f"Differences were tested by a paired bootstrap over {unit}; the chance of the seed is not known"
    )
    references = [GCSAM, SAM, ADAM, SEARLE, BCA, HOLM]
    if comparison.task == "segmentation":
        usual, references = "the Wilcoxon signed-rank test", [*references, WILCOXON]
    else:
        usual, references = "DeLong's and McNemar's tests", [*references, DELONG, OBUCHOWSKI, MCNEMAR]
    synthetic = " The images are synthetic." if comparison.synthetic else ""
    quote = [
        f"We compared {arms} on the {comparison.split} split of {comparison.title} "
        f"({count(comparison.n_cases, 'case')} in {count(comparison.n_groups, 'group')}) with "
        f"{count(seeds, 'seed')} each, all other settings being equal.{synthetic}",
        f"The main outcome was {name}. {several}; p values were corrected for "
        f"{count(len(comparison.pairs), 'pair')} by Holm's method. We also report the paired bootstrap "
        f"and {usual} on the same cases (gcsam-med {', '.join(comparison.versions)}).",
    ]
    return [Part(quote=quote), Part("References", items=references)]


def _finite(value: float) -> str:
    return number(value) if math.isfinite(value) else "–"


def _pick(figures: Figures, *keys: str) -> list[PageFigure]:
    return [figures[key] for key in keys if key in figures]
