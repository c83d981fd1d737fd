"""The half page in plain language that opens every report: which sentences of the catalogue are said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from gcsam_med.config import Language
from gcsam_med.reading import parse_yaml
from gcsam_med.reporting.comparison import Comparison
from gcsam_med.reporting.report import Report
from gcsam_med.reporting.text import arm_name, number, readable_arm


@cache
def sentences() -> dict[str, dict[Language, str]]:
    """Return the catalogue, ``plain_words.yaml``: for each key the sentence in every language."""
    text = (files("gcsam_med.reporting") / "plain_words.yaml").read_text(encoding="utf-8")
    catalogue: dict[str, dict[Language, str]] = parse_yaml(text)
    return catalogue


# One decimal sign a language; thousands are not grouped in these sentences.
_DECIMAL: Mapping[Language, str] = {"en": ".", "de": ",", "es": ","}


@dataclass(frozen=True)
class PlainWords:
    """The half page: a heading, and three headed paragraphs."""

    language: Language
    heading: str
    parts: tuple[tuple[str, str], ...]


class _Speaker:
    """Says sentences of the catalogue in one language."""

    def __init__(self, language: Language) -> None:
        self.language = language

    def __call__(self, key: str, **values: object) -> str:
        written = {name: self._write(value) for name, value in values.items()}
        return sentences()[key][self.language].format(**written)

    def _write(self, value: object) -> str:
        if isinstance(value, float):
            return number(value).replace(",", "").replace(".", _DECIMAL[self.language])
        return str(value)

    def page(self, asked: list[str], found: list[str], not_said: list[str]) -> PlainWords:
        parts = {"asked": asked, "found": found, "not_said": not_said}
        return PlainWords(
            self.language,
            self("heading"),
            tuple((self(key), " ".join(sentences)) for key, sentences in parts.items()),
        )


def of_report(report: Report, language: Language = "en") -> PlainWords:
    """Say what an evaluation asked, found, and does not say."""
    say = _Speaker(language)
    data = report.data
    known = not data.external and data.split not in ("test", "folds")
    asked = [_question(report, say), say("known_cases" if known else "new_cases", n=data.n_cases)]
    not_said = [say("not_clinical")]
    if data.synthetic or report.model.synthetic:
        not_said.append(say("not_real"))
    if not data.external:
        not_said.append(say("not_elsewhere"))
    if data.group_kind != "patient":
        not_said.append(say("not_patients"))
    return say.page(asked, _answer(report, say), not_said)


def _question(report: Report, say: _Speaker) -> str:
    data = report.data
    classes = list(data.classes)
    if report.task == "segmentation":
        return say("asked_segmentation", target=data.mask_target, data=data.title)
    if len(classes) == 2:
        return say("asked_two_classes", positive=classes[1], negative=classes[0], data=data.title)
    return say("asked_classes", n_classes=len(classes), data=data.title)


def _answer(report: Report, say: _Speaker) -> list[str]:
    key = report.main_metric
    main = report.metrics[key]
    target = report.data.mask_target
    if main.value is None or main.ci95 is None:
        return [say("found_nothing")]
    low, high = main.ci95
    found = [
        say(f"found_{key}", value=main.value, low=low, high=high, target=target,
            chance=1 / max(len(report.data.classes), 1))
    ]  # fmt: skip
    if report.task == "segmentation":
        marked = report.cases[report.cases["dice"].notna()]
        missed = int((marked["area_predicted"] == 0).sum())
        found.append(say("found_missed", n_lesion=len(marked), missed=missed, target=target))
    elif key == "auc" and report.confusion is not None:
        (tn, fp), (fn, tp) = report.confusion.tolist()
        negative, positive = report.data.classes
        found.append(
            say("found_calls", tp=tp, positives=tp + fn, tn=tn, negatives=tn + fp, positive=positive,
                negative=negative)
        )  # fmt: skip
    return found


def of_comparison(comparison: Comparison, metric: str, language: Language = "en") -> PlainWords:
    """Say what a comparison asked, found, and does not say; `metric` is the main metric's title."""
    say = _Speaker(language)
    arms = comparison.arms
    asked = [
        say("asked_comparison", arms=", ".join(arm_name(comparison, a) for a in arms), metric=metric,
            n=comparison.n_cases, data=comparison.title)
    ]  # fmt: skip
    found = [
        say("found_mean", arm=arm_name(comparison, a), value=a.main.value)
        for a in arms
        if a.main.value is not None
    ]
    for pair in comparison.shown:
        value, (low, high) = pair.difference.value or 0.0, pair.difference.ci95 or (0.0, 0.0)
        if value < 0:
            low, high = -high, -low
        found.append(
            say(f"found_{pair.verdict}", second=readable_arm(pair.second), first=readable_arm(pair.first),
                value=abs(value), low=low, high=high)
        )  # fmt: skip
    equivalent = [pair for pair in comparison.pairs if pair.answer == "equivalent"]
    for pair in equivalent:
        found.append(
            say("found_equivalent", second=readable_arm(pair.second), first=readable_arm(pair.first),
                margin=comparison.margin)
        )  # fmt: skip
    left = [pair for pair in comparison.pairs if pair not in (*comparison.shown, *equivalent)]
    unanswered = sum(pair.verdict == "not answerable" for pair in left)
    for key, n in (("found_no_difference", len(left) - unanswered), ("found_unanswered", unanswered)):
        if n:
            found.append(say(key, n_pairs=n, all_pairs=len(comparison.pairs)))
    not_said = [say("not_clinical")]
    if comparison.synthetic:
        not_said.append(say("not_real"))
    not_said.append(say("not_elsewhere"))
    if comparison.group_kind != "patient":
        not_said.append(say("not_patients"))
    if arms and min(len(arm.runs) for arm in arms) < 3:
        not_said.append(say("not_seeds"))
    return say.page(asked, found, not_said)
