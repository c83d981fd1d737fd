"""`gcsam-med prepare`, `audit` and `preview` as a person types them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gcsam_med.cli import run
from gcsam_med.datasets import demo
from tests.builders import make_prepared
from tests.datasets import layouts

SMALL = ["--size", "32", "--folds", "3"]


@pytest.fixture
def busi(tmp_path: Path) -> Path:
    return layouts.busi(tmp_path / "source")


def test_prepare_says_what_it_made_and_found(
    busi: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Result on stdout, the rest on stderr; the second run is a no-op."""
    command = ["prepare", "--dataset", "busi", "--source", str(busi), "--data-root", str(tmp_path), *SMALL]
    assert run(command) == 0
    seen = capsys.readouterr()
    assert seen.out.startswith("Prepared:")
    assert "near-duplicate pairs" in seen.err
    assert run([*command, "--json"]) == 0
    payload = json.loads(capsys.readouterr().out)
    assert payload["fresh"] is False
    assert payload["counts"]["train"]["cases"] + payload["counts"]["val"]["cases"] > 0
    assert payload["audit"]["cases"] == 18


def test_demo_is_generated_once_and_stamped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """synthetic: true, without being told so by the option but by the images themselves."""
    command = ["prepare", "--dataset", "busi", "--demo", "--demo-cases", "24", "--data-root", str(tmp_path)]
    assert run([*command, *SMALL, "--json"]) == 0
    payload = json.loads(capsys.readouterr().out)
    assert payload["synthetic"] is True
    images = next((tmp_path / "demo").rglob("benign (1).png"))
    stamp = images.stat().st_mtime_ns
    assert run([*command, *SMALL, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["fresh"] is False
    assert images.stat().st_mtime_ns == stamp
    folder = next((tmp_path / "demo").glob(f"*/{demo.FOLDER}"))
    assert run(["prepare", "--dataset", "busi", "--source", str(folder), "--name", "again", "--json",
                "--data-root", str(tmp_path), *SMALL]) == 0  # fmt: skip
    assert json.loads(capsys.readouterr().out)["synthetic"] is True


def test_faults_are_a_table_and_exit_code_2(
    busi: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every bad file with its reason; --skip-bad goes on and counts."""
    (busi / "benign" / "benign (1).png").write_bytes(b"text")
    (busi / "benign" / "benign (3)_mask.png").write_bytes(b"")
    command = ["prepare", "--dataset", "busi", "--source", str(busi), "--data-root", str(tmp_path), *SMALL]
    assert run(command) == 2
    seen = capsys.readouterr().err
    for text in ("benign (1).png", "not-an-image", "benign (3)_mask.png", "empty", "--skip-bad"):
        assert text in seen
    assert "Traceback" not in seen
    assert run([*command, "--skip-bad", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["quarantined"] == 2


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ([], 2, "prepare needs to know where the images of 'busi' are"),
        (["--demo", "--source", "x"], 2, "--source and --demo exclude one another"),
        (["--source", "nowhere"], 2, "nowhere is not there"),
        (["--source", ".", "--conflicts", "dorp"], 2, "Did you mean 'drop'?"),
        (["--source", ".", "--split-by", "patients"], 2, "Unknown value of --split-by"),
        (["--source", ".", "--frames", "-1"], 2, "--frames: should be"),
        (["--source", ".", "--images", "."], 2, "belongs to --dataset folder or table"),
    ],
)
def test_mistakes_are_told_in_two_lines(
    options: list[str], code: int, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was expected, what was found, what to do."""
    assert run(["prepare", "--dataset", "busi", "--data-root", str(tmp_path), *options]) == code
    seen = capsys.readouterr().err
    assert message in seen
    assert len(seen.strip().splitlines()) <= 2


def test_unknown_data_set_and_wrong_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Did you mean; and the demo is BUSI's."""
    assert run(["prepare", "--dataset", "bussi", "--demo", "--data-root", str(tmp_path)]) == 2
    assert "Did you mean 'busi'" in capsys.readouterr().err
    assert run(["prepare", "--dataset", "lungs", "--demo", "--data-root", str(tmp_path)]) == 2
    assert "imitates the layout of busi" in capsys.readouterr().err


def test_download_without_network_ends_with_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A closed port stands for a machine without network."""
    from dataclasses import replace

    from gcsam_med.datasets import DATASETS, Download

    closed = replace(DATASETS["busi"], download=Download("http://127.0.0.1:9/Dataset_BUSI.zip"))
    monkeypatch.setitem(DATASETS, "busi", closed)
    assert run(["prepare", "--dataset", "busi", "--download", "--data-root", str(tmp_path)]) == 3
    assert "cannot be reached" in capsys.readouterr().err


def test_audit_and_preview_by_name_and_by_folder(
    busi: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Either way of naming a prepared set; overlap with itself is total."""
    root = ["--data-root", str(tmp_path)]
    assert run(["prepare", "--dataset", "busi", "--source", str(busi), *root, *SMALL]) == 0
    capsys.readouterr()
    assert run(["audit", "busi", *root, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["summary"]["cases"] == 18
    folder = str(tmp_path / "prepared" / "busi")
    assert (
        run(["audit", folder, "--against", "busi", *root, "--output", str(tmp_path / "out"), "--json"]) == 0
    )
    seen = capsys.readouterr()
    assert json.loads(seen.out)["summary"]["shared_of_first"] == 18
    assert "neither is an external test set" in seen.err
    assert (tmp_path / "out" / "overlap-busi.html").is_file()
    assert run(["preview", folder, "--cases", "2", "--variants", "1"]) == 0
    assert (tmp_path / "prepared" / "busi" / "preview.png").is_file()
    assert run(["preview", "busi", *root, "--split", "tset"]) == 2
    assert run(["audit", "nothing", *root]) == 2
    assert "No prepared data set 'nothing'" in capsys.readouterr().err
    (Path(folder) / "audit.json").write_text("{}")
    assert run(["audit", folder]) == 2
    assert "damaged or was not written" in capsys.readouterr().err


@pytest.mark.slow
def test_sigterm_leaves_the_former_set_and_no_process(tmp_path: Path) -> None:
    """Stopped while reading: exit code 143, nothing half-written, no orphans."""
    source = layouts.busi(tmp_path / "source", (200, 10, 0))
    former = make_prepared(tmp_path, name="busi").root
    (former / "former").touch()
    command = [sys.executable, "-m", "gcsam_med", "prepare", "--dataset", "busi", "--size", "1024",
               "--source", str(source), "--data-root", str(tmp_path), "--workers", "2"]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True)
    planes = None
    for _ in range(600):
        planes = next(tmp_path.glob("prepared/.busi.tmp/images.npy"), None)
        if planes is not None and planes.stat().st_size > 2**21:
            break
        time.sleep(0.05)
    assert planes is not None
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 143
    assert process.stderr is not None
    with process.stderr:
        said = process.stderr.read()
    assert b"Traceback" not in said
    assert [p.name for p in (tmp_path / "prepared").iterdir()] == ["busi"]
    assert (tmp_path / "prepared" / "busi" / "former").exists()
    assert _all_gone(process.pid)


def _all_gone(group: int) -> bool:
    """Whether a process group ends within some seconds."""
    for _ in range(200):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False
