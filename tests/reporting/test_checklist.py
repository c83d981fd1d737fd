from gcsam_med.reporting.checklist import FOR_THE_AUTHOR, ITEMS, checklist, checklist_table
from gcsam_med.reporting.methods import methods_paragraphs, references
from tests.builders import report_of


def test_every_item_of_both_lists_is_there_once():
    """Oracle: CLAIM 2024 has 44 items, TRIPOD+AI has 27."""
    claim = [int(item.claim) for item in ITEMS if item.claim]
    assert sorted(claim) == list(range(1, 45))
    tripod = {int(n) for item in ITEMS for n in item.tripod.split(",") if n.strip()}
    assert tripod == set(range(1, 28))


def test_what_the_run_knows_is_filled_in_and_the_rest_is_for_the_author():
    """Oracle: facts of the run stand in the answers; questions only a person can answer do not get one."""
    report = report_of("binary")
    answers = {item.claim: answer for item, answer in checklist(report)}
    assert str(report.model.epoch) in answers["26"]
    assert "near-duplicates" in answers["19"]
    assert "no" in answers["33"].lower()
    for only_a_person in ("1", "4", "11", "13", "16", "18", "34", "44"):
        assert answers[only_a_person] == ""
    shown = [row.cells[-1] for row in checklist_table(report).rows]
    assert shown.count(FOR_THE_AUTHOR) == sum(not a for a in [a for _, a in checklist(report)])


def test_the_methods_paragraph_states_the_run_s_facts():
    """Oracle: numbers of the report."""
    for kind in ("segmentation", "binary", "classes"):
        report = report_of(kind)
        text = " ".join(methods_paragraphs(report))
        assert f"{report.data.n_cases} images" in text
        assert f"{report.model.parameters:,} parameters" in text
        assert "gcsam (rho 0.05) on adam" in text
        assert "synthetic" in text
        assert any("GCSAM" in reference for reference in references(report))
