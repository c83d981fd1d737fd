import re
from dataclasses import replace
from typing import get_args

import pytest

from gcsam_med.config import Language
from gcsam_med.reporting.page import comparison_html, report_html
from gcsam_med.reporting.plain_words import of_comparison, of_report, sentences
from gcsam_med.reporting.text import interval, value
from tests.builders import report_of
from tests.compare.made_up import three_arms
from tests.reporting.test_report_page import EVIL, Page

LANGUAGES = get_args(Language)


@pytest.mark.parametrize("key", sentences())
def test_every_sentence_says_the_same_numbers_in_every_language(key):
    """Oracle: the English sentence's placeholders; a translation is not the English text again."""
    texts = sentences()[key]
    assert set(texts) == set(LANGUAGES)
    fields = {language: sorted(re.findall(r"\{(\w+)\}", text)) for language, text in texts.items()}
    assert fields["de"] == fields["en"]
    assert fields["es"] == fields["en"]
    if key != "found_mean":
        assert len(set(texts.values())) == len(LANGUAGES)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", ["segmentation", "binary", "classes"])
def test_the_half_page_states_the_report_s_numbers(kind, language):
    """Oracle: the report's table, digit for digit; counts made anew from its table of cases."""
    report = report_of(kind)
    main = replace(report.metrics[report.main_metric], value=0.1945, ci95=(0.1205, 0.3055))
    report = replace(report, metrics={**report.metrics, report.main_metric: main})
    page = of_report(report, language)
    text = " ".join(words for _, words in page.parts)
    for written in (value(main), *interval(main).split(" to ")):
        assert written.replace(".", "." if language == "en" else ",") in text
    assert str(report.data.n_cases) in text
    assert sentences()["not_real"][language] in text
    if kind == "segmentation":
        lesions = report.cases[report.cases["dice"].notna()]
        assert f" {(lesions['area_predicted'] == 0).sum()}" in text
        assert f" {len(lesions)} " in text
    if kind == "binary":
        _, positive = report.data.classes
        own = report.cases[report.cases["label"] == positive]
        assert str((own["predicted"] == positive).sum()) in text
        assert f"'{positive}'" in text
    assert "{" not in text


def test_cases_that_were_trained_or_tuned_on_are_said_to_be():
    """Oracle: the split."""
    report = report_of("binary")
    for split, key in (("test", "new_cases"), ("val", "known_cases"), ("train", "known_cases")):
        data = replace(report.data, split=split)
        text = of_report(replace(report, data=data)).parts[0][1]
        assert sentences()[key]["en"].format(n=data.n_cases) in text


def test_the_page_opens_with_it_in_the_language_asked_for():
    """Oracle: the catalogue; a name from data is text in it."""
    report = report_of("binary")
    evil = replace(report, data=replace(report.data, title=EVIL))
    text = report_html(evil, [], language="de")
    assert "<script" not in text.lower()
    page = Page(text)
    assert page.text.index("Was gefragt wurde") < page.text.index("Results")
    assert {"lang": "de", "class": "plain"} in page.all("div")


def test_a_comparison_opens_with_its_verdicts():
    """Oracle: three arms whose third is better by 0.1 than both others, as `made_up` makes them."""
    comparison = three_arms()[0]
    text = dict(of_comparison(comparison, "Dice").parts)
    assert "gcsam was shown to be higher than adam" in text["What was found"]
    assert "For 1 of 3 pairs no difference was shown" in text["What was found"]
    assert "fewer than three runs" not in text["What this does not say"]
    pairs = [replace(pair, by_seed=pair.by_seed[:2]) for pair in comparison.pairs]
    few = dict(of_comparison(replace(comparison, pairs=tuple(pairs)), "Dice").parts)["What was found"]
    assert "For 3 of 3 pairs the question cannot be answered" in few
    assert "no difference was shown" not in few
    assert "Was herauskam" in Page(comparison_html(comparison, [], language="de")).text
