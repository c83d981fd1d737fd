from gcsam_med.evaluation.evaluation_log import former_evaluations, log_evaluation
from gcsam_med.runs import RunFolder


def test_looks_of_all_runs_beside_are_counted_and_torn_lines_skipped(tmp_path):
    """Oracle: counted by hand."""
    runs = [RunFolder(tmp_path / name) for name in ("a", "b")]
    for run in runs:
        run.root.mkdir()
    look = {"time": "2026-01-01T00:00:00", "task": "segmentation", "split": "test", "dataset_sha256": "d"}
    log_evaluation(runs[0], look)
    log_evaluation(runs[1], look | {"time": "2025-01-01T00:00:00", "run": "b"})
    log_evaluation(runs[1], look | {"split": "val"})
    log_evaluation(runs[1], look | {"dataset_sha256": "other"})
    with runs[0].evaluation_log_file.open("a") as file:
        file.write('{"time": "2026-')
    looks = former_evaluations(runs[0], "segmentation", "test", "d")
    assert len(looks) == 2
    assert looks[0]["run"] == "b"
    assert len(runs[0].evaluations()) == 1
    assert RunFolder(tmp_path / "nowhere").evaluations() == []
