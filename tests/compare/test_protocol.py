"""A sealed external test: frozen, made once, amended, and its log verified."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pandas as pd
import pytest

from gcsam_med.compare import protocol
from gcsam_med.errors import InputError
from gcsam_med.files import write_json
from tests.builders import SHARED, make_prepared, make_run, with_fingerprints


@pytest.fixture
def frozen(tmp_path: Path) -> Path:
    """A protocol for two untrained models of one recipe and an external set."""
    home = with_fingerprints(make_prepared(tmp_path / "data", n=30, name="home"), 1)
    with_fingerprints(make_prepared(tmp_path / "data", n=24, name="far", seed=5), 2)
    classes = ("benign", "malignant")
    runs = [
        make_run(tmp_path / "runs", home, "classification", name=f"r{seed}", seed=seed, classes=classes)
        for seed in (0, 1)
    ]
    path = tmp_path / "protocol.json"
    protocol.freeze(runs, ["far"], path, outcome="auc", margin=0.05, data_root=tmp_path / "data")
    return path


@pytest.mark.parametrize("name", ["p.log", ".hidden", "..", "x" * 101])
def test_the_name_of_a_protocol_is_a_name(tmp_path: Path, name: str) -> None:
    """Its log would be the file itself, or hidden. Oracle: refused before a run is read."""
    with pytest.raises(InputError, match="name of a protocol"):
        protocol.freeze([tmp_path / "none"], ["far"], tmp_path / name, outcome="auc", margin=0.1)


@pytest.mark.parametrize("margin", [0, 1, 5, float("nan"), float("inf")])
def test_a_margin_lies_between_0_and_1(tmp_path: Path, margin: float) -> None:
    """Oracle: the error names it."""
    with pytest.raises(InputError, match="margin lies between"):
        protocol.freeze([tmp_path / "none"], ["far"], tmp_path / "p", outcome="auc", margin=margin)


def forged(path: Path, **changes: object) -> None:
    """Change fields of the first run and compute seal and log anew, as a stranger would."""
    content = json.loads(path.read_text())
    content["runs"][0] |= changes
    write_json(path, content, indent=1)
    log = path.with_suffix(".log")
    log.unlink()
    protocol._append(path, "frozen", {"protocol_sha256": json.loads(path.read_text())["seal"]})


@pytest.mark.parametrize(
    "changes",
    [{"name": "../../out"}, {"internal": {"value": "x", "ci95": [0, 1]}}, {"internal": {"ci95": ["a"]}}],
)
def test_a_forged_protocol_is_refused_before_the_set_is_opened(frozen: Path, changes: dict) -> None:
    """Oracle: an error that names the file; nothing outside; no look in the log."""
    forged(frozen, **changes)
    with pytest.raises(InputError, match=r"protocol\.json is damaged"):
        protocol.run(frozen, device="cpu")
    assert "look" not in frozen.with_suffix(".log").read_text()
    assert not (frozen.parent.parent / "out").exists()


def test_two_processes_do_not_open_a_set_at_once(frozen: Path) -> None:
    """Oracle: the second is refused while the first is at work, and the chain holds."""
    with protocol._alone(frozen), pytest.raises(InputError, match="already working"):
        protocol.run(frozen, device="cpu")
    assert [entry.event for entry in protocol.standing(frozen).entries] == ["frozen"]


def test_a_sealed_test_is_made_once_and_amended_with_a_reason(frozen: Path, tmp_path: Path) -> None:
    """Oracle: the external manifest less the shared picture's group; hashes taken again here."""
    there = protocol.standing(frozen)
    manifest = pd.read_csv(tmp_path / "data/prepared/far/manifest.csv", dtype=str)
    group = manifest["group_id"][SHARED]
    wanted = manifest[(manifest["label"] != "normal") & (manifest["group_id"] != group)]
    assert there.protocol.external[0].kept == list(wanted["case_id"])

    (result,) = protocol.run(frozen, device="cpu")
    cases = pd.read_csv(tmp_path / "protocol-results/far/r0/cases.csv")
    assert list(cases["case_id"]) == list(wanted["case_id"])
    assert result["n_cases"] == len(wanted)
    assert "Sealed external test" in (tmp_path / "protocol-results/far/r0/report.html").read_text()
    before = protocol.standing(frozen).entries
    with pytest.raises(InputError, match="made once"):
        protocol.run(frozen, device="cpu")
    assert protocol.standing(frozen).entries == before

    protocol.run(frozen, amend="a mask was wrong", device="cpu")
    events = [entry.event for entry in protocol.standing(frozen).entries]
    assert events == ["frozen", "look", "result", "amendment", "look", "result"]
    page = (tmp_path / "protocol-results/far-look2/r0/report.html").read_text()
    assert "Amended external test, look 2" in page
    assert "a mask was wrong" in page


def test_every_change_of_the_log_is_noticed(frozen: Path) -> None:
    """Oracle: a chain over the lines: changed, removed, swapped and added ones all break it."""
    protocol._append(frozen, "look", {"external": "far", "look": 1})
    log = frozen.with_suffix(".log")
    lines = log.read_text().splitlines(keepends=True)
    broken = [
        [lines[0], lines[1].replace('"look": 1', '"look": 2')],
        [lines[1]],
        [lines[1], lines[0]],
        [*lines, lines[1]],
        [lines[0], lines[1][:40]],
        [],
    ]
    for text in broken:
        log.write_text("".join(text))
        with pytest.raises(InputError, match=r"chain is broken|is not the log"):
            protocol.standing(frozen)
    log.write_text(lines[0])
    results = frozen.with_name("protocol-results") / "far"
    results.mkdir(parents=True)
    with pytest.raises(InputError, match="last lines are gone"):
        protocol.standing(frozen)
    log.write_text("".join(lines))
    content = json.loads(frozen.read_text())
    frozen.write_text(json.dumps(content | {"margin": 0.2}))
    with pytest.raises(InputError, match="changed since it was written"):
        protocol.standing(frozen)


def test_other_weights_and_other_code_are_refused(frozen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the rule that what was frozen is what is tested."""
    monkeypatch.setattr(protocol, "code_sha256", lambda: "other")
    with pytest.raises(InputError, match="another version"):
        protocol.run(frozen, device="cpu")
    monkeypatch.undo()
    info = frozen.parent / "data/prepared/far/dataset.json"
    content = info.read_text()
    info.write_text(content.replace(protocol.standing(frozen).protocol.external[0].content_sha256, "0" * 64))
    with pytest.raises(InputError, match="'far' is not there as it was"):
        protocol.run(frozen, device="cpu")
    info.write_text(content)
    calibration = frozen.parent / "runs/r1/model/calibration.json"
    content = json.loads(calibration.read_text())
    content.pop("sealed_sha256", None)
    calibration.write_text(json.dumps({k: v for k, v in content.items() if "seal" not in k} | {"n": 7}))
    with pytest.raises(InputError, match="calibration of"):
        protocol.run(frozen, device="cpu")
    assert len(protocol.standing(frozen).entries) == 1


def test_a_set_that_does_not_fit_is_refused_before_it_is_sealed(frozen: Path, tmp_path: Path) -> None:
    """Oracle: models take 32 pixels; a look at images of 40 would be used up by an error."""
    with_fingerprints(make_prepared(tmp_path / "data", n=24, size=40, name="large", seed=6), 3)
    runs, path = [tmp_path / "runs/r0"], tmp_path / "other.json"
    with pytest.raises(InputError, match="32x32 pixels"):
        protocol.freeze(runs, ["large"], path, outcome="auc", margin=0.05, data_root=tmp_path / "data")
    assert not path.exists()


def test_a_look_that_is_killed_counts(frozen: Path) -> None:
    """Oracle: the log; a process killed when it opens the set leaves a look without a result."""
    pid = os.fork()
    if not pid:
        protocol.open_prepared = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[assignment]
        protocol.run(frozen, device="cpu")
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL
    there = protocol.standing(frozen)
    assert [entry.event for entry in there.entries] == ["frozen", "look"]
    with pytest.raises(InputError, match="made once"):
        protocol.run(frozen, device="cpu")


@pytest.mark.parametrize(
    ("ends", "said"),
    [
        ((-0.04, 0.02), "equivalent within the margin"),
        ((-0.04, 0.09), "not worse by more than the margin"),
        ((-0.06, 0.02), "not shown"),
        ((-0.2, -0.06), "worse by more than the margin"),
        (None, "not answerable"),
    ],
)
def test_what_an_interval_shows_against_a_margin(ends: tuple[float, float] | None, said: str) -> None:
    """Oracle: the usual picture of non-inferiority (Piaggio et al., JAMA 308, 2012); margin 0.05."""
    assert protocol.against_margin(ends, 0.05) == said
