import base64
import io
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from gcsam_med.datasets.prepared import open_prepared
from gcsam_med.metrics.segmentation import MaskPair, dice
from gcsam_med.reporting.figures import draw_all
from gcsam_med.reporting.page import report_html
from gcsam_med.reporting.report import Notice
from gcsam_med.reporting.write import write_report
from tests.builders import report_of, trained_runs

pytestmark = pytest.mark.figures

EVIL = '<script>alert("1")</script><img src=x onerror=alert(2)>$x_{$ &amp; -->'
KINDS = ("segmentation", "binary", "classes")


class Page(HTMLParser):
    """Every element with its attributes, the text by element, and the cells of every table row."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.texts, self.rows, self._open = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        if tag in self._open:
            while self._open.pop() != tag:
                pass

    def handle_data(self, data):
        self.texts.append((self._open[-1] if self._open else "", data))
        if self._open and self._open[-1] in ("td", "th"):
            self.rows[-1][-1] += data

    @property
    def text(self):
        """All text but the style sheet, with single spaces."""
        return " ".join(" ".join(data for tag, data in self.texts if tag != "style").split())

    def all(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]


@pytest.fixture(scope="module", params=KINDS)
def page(request):
    report = report_of(request.param)
    return report, Page(report_html(report, draw_all(report)))


def evil_report(kind):
    report = report_of(kind)
    rename = {name: f"{EVIL}{i}" for i, name in enumerate(report.data.classes)}
    cases = report.cases.replace({"label": rename, "predicted": rename})
    cases = cases.rename(
        columns={f"{p}_{k}": f"{p}_{v}" for k, v in rename.items() for p in ("prob", "calibrated")}
    )
    cases["case_id"] = EVIL
    return replace(
        report,
        model=replace(report.model, run=EVIL, network=EVIL),
        data=replace(
            report.data,
            title=EVIL,
            citation=EVIL,
            classes={rename[k]: v for k, v in report.data.classes.items()},
            excluded={EVIL: 1},
        ),
        per_class={rename.get(k, k): v for k, v in report.per_class.items()},
        cases=cases,
        curves={
            key: table.replace({"class": rename}) if "class" in table else table
            for key, table in report.curves.items()
        },
        subgroups=tuple(replace(p, column=EVIL, value=EVIL) for p in report.subgroups),
        gallery=tuple(
            replace(e, case_id=EVIL, label=EVIL, caption=EVIL, alt=f'" {EVIL}') for e in report.gallery
        ),
        notices=(*report.notices, Notice("evil", EVIL, EVIL, stamp=True)),
        audit={EVIL: [{EVIL: EVIL}], "b": EVIL},
        config={EVIL: EVIL},
        environment={EVIL: {EVIL: EVIL}},
        evaluations=({"run": EVIL}, {"run": EVIL}),
    )


@pytest.mark.parametrize("kind", KINDS)
def test_names_from_data_are_text_and_nothing_else(kind):
    """Oracle: a page with hostile names has the same elements as one with harmless names, and no script."""
    report = evil_report(kind)
    text = report_html(report, draw_all(report))
    page, harmless = Page(text), Page(report_html(report_of(kind), draw_all(report_of(kind))))
    assert "<script" not in text.lower()
    assert not [attrs for _, attrs in page.elements if any(name.startswith("on") for name in attrs)]
    count = Counter(name for name, _ in page.elements)
    for tag in ("script", "img", "iframe", "object", "style", "link", "svg"):
        assert count[tag] == Counter(name for name, _ in harmless.elements)[tag], tag
    assert any(EVIL in data for _, data in page.texts)


def test_nothing_is_fetched(page):
    """Oracle: every address is on the page itself or in the file; the policy forbids the rest."""
    _, parsed = page
    for name, attrs in parsed.elements:
        for key in ("src", "href", "xlink:href", "action", "srcset", "data"):
            if attrs.get(key):
                assert attrs[key].startswith(("#", "data:")), (name, attrs[key])
    policy = next(
        a["content"] for a in parsed.all("meta") if a.get("http-equiv") == "Content-Security-Policy"
    )
    assert "default-src 'none'" in policy
    style = "".join(data for tag, data in parsed.texts if tag == "style")
    assert "url(" not in style
    assert "@import" not in style


def test_the_page_is_sound(page):
    """Oracle: HTML's rules: unique ids, links that lead somewhere, headings in steps of one, alt texts."""
    _, parsed = page
    ids = Counter(attrs["id"] for _, attrs in parsed.elements if attrs.get("id"))
    assert max(ids.values()) == 1
    for _, attrs in parsed.elements:
        for key in ("href", "aria-labelledby"):
            for target in (attrs.get(key) or "").split():
                if target.startswith("#") or key == "aria-labelledby":
                    assert target.lstrip("#") in ids
    levels = [int(name[1]) for name, _ in parsed.elements if re.fullmatch(r"h[1-6]", name)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))
    assert all(attrs.get("alt") for attrs in parsed.all("img"))
    assert parsed.all("html")[0]["lang"] == "en"
    assert all(attrs.get("role") == "img" for attrs in parsed.all("svg"))


def test_every_figure_is_there_and_drawn(page):
    """Oracle: one drawing with lines for each figure of the table that the report has data for."""
    report, parsed = page
    drawn = draw_all(report)
    assert len(parsed.all("svg")) == len(drawn) >= 5
    for figure in drawn:
        assert len(figure.svg) > 4000
        with Image.open(io.BytesIO(figure.png)) as image:
            assert len(image.convert("L").getcolors(256)) > 5
    for attrs in parsed.all("img"):
        data = base64.b64decode(attrs["src"].split(",", 1)[1])
        with Image.open(io.BytesIO(data)) as image:
            assert image.size == (int(attrs["width"]), int(attrs["height"]))


def test_the_summary_comes_first_with_the_main_metric(page):
    """Oracle: the figure of metrics.json, rounded to three places."""
    report, parsed = page
    text = parsed.text
    main = report.metrics[report.main_metric]
    assert f"{main.value:.3f}" in text[: text.index("Results")]
    assert "Not for clinical use" in text[: text.index("Results")]
    classes = ", ".join(f"{name} {n}" for name, n in report.data.classes.items())
    assert f"Classes {classes} " in text[: text.index("Results")]
    assert "Synthetic images" in text[: text.index("Results")]


def test_the_same_report_gives_the_same_files(tmp_path):
    """Oracle: bytes; nothing in a report depends on when or where it was written."""
    report = report_of("binary")
    for name in ("a", "b"):
        write_report(report, tmp_path / name)
    files = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file())
    assert len(files) > 15
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file


def checklist(parsed):
    start = next(i for i, row in enumerate(parsed.rows) if row[:2] == ["Topic", "CLAIM"])
    return parsed.rows[start + 1 :]


def test_every_item_of_both_checklists_is_there_once(page):
    """Oracle: CLAIM 2024 has 44 items, TRIPOD+AI has 27."""
    rows = checklist(page[1])
    assert sorted(int(row[1]) for row in rows if row[1] != "\N{EN DASH}") == list(range(1, 45))
    tripod = {int(n) for row in rows for n in row[2].split(",") if n != "\N{EN DASH}"}
    assert tripod == set(range(1, 28))


def test_what_the_run_knows_is_filled_in_and_the_rest_is_for_the_author(page):
    """Oracle: facts of the run stand in the answers; questions only a person can answer do not get one."""
    report, parsed = page
    answers = {row[1]: row[3] for row in checklist(parsed)}
    assert f"Epoch {report.model.epoch}" in answers["26"]
    assert "near-duplicates" in answers["19"]
    assert answers["33"] == "None in this report."
    for only_a_person in ("1", "4", "11", "13", "16", "18", "34", "44"):
        assert answers[only_a_person] == "for the author"
    assert sum(answer == "for the author" for answer in answers.values()) < 22


def test_the_methods_paragraph_states_the_run_s_facts(page):
    """Oracle: numbers of the report; each interval is said to be made as its `Estimate.method` says."""
    report, parsed = page
    text = parsed.text
    assert f"{report.data.n_cases} images" in text
    assert f"{report.model.parameters:,} parameters" in text
    assert "gcsam (rho 0.05) on adam" in text
    early = "at most 100, fewer after 20 epochs without improvement"
    assert f"Training ran for {len(report.history)} epochs ({early}), with random transforms" in text
    assert "in fp32 arithmetic, with random seed 0" in text
    assert "The images are synthetic." in text
    assert "GCSAM: Gradient Centralized" in text
    sentence = text[text.index("95 % confidence intervals were computed by") :].split(". ")[0]
    sentence = sentence.split(", and those of single classes")[0]
    for words, method in (("Wilson's method", "Wilson"), ("DeLong's method", "DeLong")):
        assert (words in sentence) == any(
            e.method.startswith(method) for e in report.metrics.values() if e.ci95 is not None
        )


def test_methods_and_checklist_say_what_was_done_and_no_more():
    """Oracle: the report's own facts; the same sentences where the fact is taken away."""
    report = report_of("binary")
    report = replace(report, config={**report.config, "clip_norm": 1.0})
    text = " ".join(Page(report_html(report, [])).text.split())
    assert f"{report.policy['positive_class']} was the positive class." in text
    assert f"The decision curve uses {report.policy['decision_curve']};" in text
    assert "Gradients were clipped to the norm 1." in text
    assert "The evaluated weights are" not in text
    assert "Youden. Index for rating" in text
    point = replace(report.operating, rule="given", chosen_on="given")
    bare = replace(
        report,
        operating=point,
        policy={**report.policy, "decision_curve": None},
        gallery=tuple(replace(case, heat=False) for case in report.gallery),
        config={**report.config, "clip_norm": 0, "ema": 0.99, "pretrained": True},
    )
    page = Page(report_html(bare, []))
    assert "Youden. Index for rating" not in page.text
    assert "Decision curve analysis" not in page.text
    assert "Gradients were clipped" not in page.text
    assert "The evaluated weights are an exponential moving average (decay 0.99)." in page.text
    assert "parameters, which began with ImageNet weights, was trained" in page.text
    answers = {row[1]: row[3] for row in checklist(page)}
    assert answers["31"] == "for the author"
    classes = Page(report_html(report_of("classes"), [])).text
    assert "and those of single classes by" in classes
    assert "and those of single classes by" not in text


def test_masks_that_outline_no_lesions_are_called_what_they_are():
    """Lungs: the word lesion stands nowhere on the page."""
    report = report_of("segmentation")
    lungs = replace(report, data=replace(report.data, mask_target="lung", title="Toy lungs"))
    text = Page(report_html(lungs, draw_all(lungs))).text
    assert not re.findall(r"(?i)\blesions?\b", text)
    assert "lung images" in text
    named = lungs.cases.assign(case_id=[f"lesion {i}" for i in range(len(lungs.cases))])
    page = report_html(replace(lungs, cases=named), [])
    assert "lesion 0" in page
    assert "lung 0" not in page


def test_an_audit_of_any_layout_is_shown():
    """Oracle: every number of a small audit stands on the page, long lists cut and said to be."""
    audit = {
        "schema": 1,
        "summary": {"cases": 7, "random_split_leak": 0.25},
        "conflicts": [{"first": "a", "pair": ["x", "y"]}, {"first": "b", "why": None}],
        "new_names": [f"n{i}" for i in range(60)],
        "note": "all well",
    }
    report = replace(report_of("binary"), audit=audit)
    parsed = Page(report_html(report, []))
    assert (
        "Share of test images with a duplicate in training under a random split by image 0.25" in parsed.text
    )
    assert "Show Conflicting labels (2)" in parsed.text
    assert "note all well" in parsed.text
    assert ["first", "pair", "why"] in parsed.rows
    assert ["a", "x, y", "\N{EN DASH}"] in parsed.rows
    assert ["n49"] in parsed.rows
    assert ["n50"] not in parsed.rows
    assert "new names (the first 50 of 60)" in parsed.text


def test_the_flow_of_cases_and_the_possible_shortcuts_are_shown():
    """Oracle: by hand, from an audit with two bad files, a dropped case and one suspect."""
    audit = {
        "summary": {"cases": 36, "quarantined": 2, "dropped": 1},
        "shortcuts": [{"feature": "width", "suspicious": True}, {"feature": "mean", "suspicious": False}],
    }
    report = report_of("binary")
    text = Page(report_html(replace(report, audit=audit), [])).text
    assert "36 cases in the data set left out before: 2 bad files, 1 case with conflicting labels" in text
    assert f"{report.data.n_cases} evaluated left out: 8 of a class the model does not know" in text
    assert "Possible shortcuts: width. These properties" in text


def test_methods_and_checklist_count_who_trained():
    """Oracle: the manifest: healthy images lie in the splits, but train no segmentation."""
    table = open_prepared(trained_runs()["data"], "toy").manifest
    lesion = table["label"] != "normal"
    n, val = (int((lesion & (table["split"] == split)).sum()) for split in ("train", "val"))
    healthy = int((~lesion & table["split"].isin(["train", "val"])).sum())
    report = report_of("segmentation")
    assert report.model.trained == {"train": n, "val": val, "without a lesion": healthy}
    text = Page(report_html(report, [])).text
    left = f"{val} more for validation; {healthy} without a lesion took no part"
    assert f"{n} images of {report.data.title} ({left})" in text
    assert "which had the highest mean Dice on the validation split" in text
    took = f"{n} images for training and {val} for validation; left out of these: {healthy} without"
    assert text.count(took) == 4  # CLAIM 8, 10, 12 and 35
    drawn = replace(report, data=replace(report.data, split_from="drawn", split_seed=7))
    assert (
        "The split was drawn, stratified by class, with random seed 7." in Page(report_html(drawn, [])).text
    )
    given = replace(report, data=replace(report.data, split_from="source"))
    assert "stratified by class" not in Page(report_html(given, [])).text


def test_areas_are_compared_by_ratio_where_the_error_grows_with_the_area():
    """Oracle: by construction, areas 30 % too large, and areas off by a constant."""
    report = report_of("segmentation")
    lesion = report.cases["dice"].notna()
    rng = np.random.default_rng(0)
    for error, proportional in ((lambda a: 0.3 * a, True), (lambda a: 20 + rng.normal(0, 5, len(a)), False)):
        cases = report.cases.copy()
        cases.loc[lesion, "area_predicted"] = cases["area_truth"] + error(cases["area_truth"])
        found = next(d for d in draw_all(replace(report, cases=cases)) if d.key == "bland_altman")
        assert ("ratios are shown" in found.caption) == proportional
        assert ("bias 1.30" in found.svg) == proportional or not proportional
        assert "mathdefault" not in found.svg


def test_the_ceiling_of_the_resolution_and_the_scale_of_pixels_are_said():
    """Oracle: the original masks, letterboxed to 32 pixels and brought back."""
    report = report_of("segmentation")
    dataset = open_prepared(trained_runs()["data"], "toy")
    found = []
    for row in dataset.rows("test"):
        truth, geometry = dataset.original_mask(row), dataset.geometry(row)
        if truth.any():
            back = geometry.restore(geometry.place_mask(truth).astype(np.float32)) >= 0.5
            found.append(dice(MaskPair(back, truth)))
    assert report.policy["dice_ceiling"].startswith(f"{np.mean(found):.3f}: ")
    text = Page(report_html(report, [])).text
    assert f"Dice ceiling of this resolution: {np.mean(found):.3f}" in text
    assert "Distances in pixels" in {n.title for n in report.notices}
    hd95, of_diagonal = report.metrics["hd95"], report.metrics["hd95_diagonal"]
    assert 0 < of_diagonal.value < 1
    assert f"Relative HD95 (of the diagonal) {100 * of_diagonal.value:.1f} %" in text
    assert hd95.n == of_diagonal.n
