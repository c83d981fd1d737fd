"""The local page lets in who has the token, and nobody whom another page, name or machine sends."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from gcsam_med.cli import run
from gcsam_med.config import RunConfig, dump_config
from gcsam_med.errors import EnvironmentFault, InputError
from gcsam_med.view.library import Library, find_target
from gcsam_med.view.rooms import routes
from gcsam_med.view.runs_room import chart
from gcsam_med.view.server import application, listen

BASE, TOKEN = "http://127.0.0.1:8000", "of-this-test"


def run_folder(folder: Path) -> Path:
    """A run as far as its table and its curves need it."""
    root = folder / "runs" / "first"
    root.mkdir(parents=True)
    (root / "config.yaml").write_text(dump_config(RunConfig(dataset="toy", task="classification")))
    (root / "result.json").write_text('{"epochs": 2, "metric": "auc", "best": 0.6}')
    (root / "history.csv").write_text("epoch,train_loss,val_loss,val_auc\n1,0.9,0.8,0.5\n2,0.7,0.75,0.6\n")
    return root


def client(served) -> TestClient:
    return TestClient(application(served, 8000, TOKEN), base_url=BASE, raise_server_exceptions=False)


@pytest.fixture
def plain() -> TestClient:
    """A page of one word, which takes a form too."""
    word = Route("/", lambda request: PlainTextResponse("inside"), methods=["GET", "POST"])
    return client([word])


def test_without_the_token_nothing_is_shown(plain):
    """Oracle: status 403 on every path, and no word of what is inside."""
    for path in ("/", "/?token=wrong", "/runs", "/static/view.js", "/nowhere"):
        answer = plain.get(path)
        assert answer.status_code == 403
        assert "inside" not in answer.text
    plain.cookies.set("gcsam-med-view-8000", "guessed")
    assert plain.get("/").status_code == 403


def test_the_token_is_taken_once_for_a_cookie_that_scripts_and_other_sites_do_not_get(plain):
    """Oracle: the cookie's attributes; the address without the token; a second browser."""
    answer = plain.get("/", params={"token": TOKEN, "a": "1"}, follow_redirects=False)
    assert answer.status_code == 303
    assert answer.headers["location"] == "/?a=1"
    cookie = answer.headers["set-cookie"]
    assert {"HttpOnly", "Path=/", "SameSite=strict"} <= set(cookie.split("; "))
    assert plain.get("/").text == "inside"
    plain.cookies.clear()
    assert plain.get("/", params={"token": TOKEN}).status_code == 403


def test_other_names_of_this_machine_and_other_pages_are_refused(plain):
    """Oracle: status by Host (DNS rebinding) and Origin (a page elsewhere), with a valid cookie."""
    plain.get("/", params={"token": TOKEN})
    assert plain.get("/").status_code == 200
    for host in ("evil.example:8000", "127.0.0.1:9000", "127.0.0.1", "", "localhost.evil.example:8000"):
        assert plain.get("/", headers={"Host": host}).status_code == 403
    assert plain.get("/", headers={"Host": "localhost:8000"}).status_code == 200
    assert plain.post("/", headers={"Origin": BASE}).status_code == 200
    for origin in ("http://evil.example", "null", "http://127.0.0.1:9000", "https://127.0.0.1:8000"):
        assert plain.post("/", headers={"Origin": origin}).status_code == 403
        assert plain.get("/", headers={"Origin": origin}).status_code == 403
    assert plain.post("/").status_code == 403
    assert plain.post("/", headers={"Origin": BASE, "Content-Length": str(2**40)}).status_code == 413


def test_every_answer_carries_a_strict_policy(plain):
    """Oracle: the headers: no script, style or request but our own; nothing kept in the cache."""
    for answer in (plain.get("/"), plain.get("/", params={"token": TOKEN})):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_socket_is_of_this_machine_only_and_a_taken_port_is_told():
    with listen(0) as opened:
        host, port = opened.getsockname()
        assert host == "127.0.0.1"
        with pytest.raises(EnvironmentFault, match=str(port)):
            listen(port)


def test_runs_are_shown_with_curves_report_and_settings(tmp_path):
    """Oracle: the run's own files; the report stands in a frame in which nothing can run."""
    folder = run_folder(tmp_path)
    evaluation = folder / "evaluation/test"
    evaluation.mkdir(parents=True, exist_ok=True)
    (evaluation / "report.html").write_text("<p>the report</p><script>alert(1)</script>")
    (evaluation / "metrics.json").write_text("{}")
    (evaluation / "cases.csv").write_text("case_id\n")
    page = client(routes(Library(folder.parent)))
    shown = page.get("/", params={"token": TOKEN}).text
    assert "first" in shown
    assert shown.count("<polyline") == 3
    assert "Validation: AUC by epoch. validation: at the end 0.600" in shown
    assert "<polyline" not in page.get("/runs", params={"filter": "nothing"}).text
    key = re.search(r'href="/runs/(\w+)"', shown)[1]
    assert "All settings" in page.get(f"/runs/{key}").text
    report = re.search(r'href="/reports/(\w+)"', shown)[1]
    assert "sandbox></iframe>" in page.get(f"/reports/{report}").text
    answer = page.get(f"/reports/{report}/report.html")
    assert answer.text.startswith("<p>the report")
    assert answer.headers["content-security-policy"].startswith("sandbox; default-src 'none'")


def test_pooled_test_folds_are_a_row_of_their_own_with_a_report(tmp_path):
    """Oracle: metrics.json of the pooled evaluation; several models answered, so no room of cases."""
    folder = run_folder(tmp_path)
    for name, dice in (("test", 0.25), ("folds", 0.75)):
        evaluation = folder / "evaluation" / name
        evaluation.mkdir(parents=True)
        (evaluation / "metrics.json").write_text(json.dumps({"metrics": {"dice": {"value": dice}}}))
        (evaluation / "cases.csv").write_text("case_id\n")
        (evaluation / "report.html").write_text(f"<p>{name}")
    page = client(routes(Library(folder.parent)))
    shown = page.get("/runs", params={"token": TOKEN}).text
    rows = re.findall(r"<tr>(.*?)</tr>", shown, flags=re.DOTALL)[1:]
    assert ["test folds pooled" in row for row in rows] == [False, True]
    assert ["0.250" in rows[0], "0.750" in rows[1]] == [True, True]
    assert ["/cases/" in row for row in rows] == [True, False]
    report = re.search(r'href="/reports/(\w+)"', rows[1])[1]
    assert page.get(f"/reports/{report}/report.html").text == "<p>folds"
    assert "/cases/" not in page.get(f"/reports/{report}").text.partition("<main")[2]


@pytest.mark.parametrize(
    "key", ["..%2f..", "%2e%2e%2f%2e%2e%2fetc", "%252e%252e", "0" * 12, "first", "a%00b"]
)
def test_what_a_request_names_is_no_path(tmp_path, key):
    """Oracle: status 404 for every id that stands in no table."""
    page = client(routes(Library(run_folder(tmp_path).parent)))
    page.get("/", params={"token": TOKEN})
    for room in ("runs", "reports", "static"):
        assert page.get(f"/{room}/{key}").status_code == 404


def test_a_curve_of_one_epoch_is_drawn():
    """Oracle: the value lies between the ticks."""
    drawn = chart("Loss", {"a": ([1.0], [1.0])}, ["a"])
    ((_, y),) = drawn.lines[0].marks
    heights = [at for at, _ in drawn.y_ticks]
    assert min(heights) < y < max(heights)


def test_nothing_to_view_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no folder runs"):
        find_target(None)
    with pytest.raises(InputError, match="There is no folder gone"):
        find_target(Path("gone"))
    assert run(["view", "empty"]) == 2


def test_the_command_prints_its_address_first_and_ends_with_a_signal(tmp_path):
    """Oracle: a process of its own: the first line of stdout opens the page; without its token: 403."""
    folder = run_folder(tmp_path)
    command = [sys.executable, "-m", "gcsam_med", "view", str(folder), "--no-open"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) as process:
        try:
            address = process.stdout.readline().strip()
            assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\?token=[\w-]{32}", address)
            opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
            with opener.open(address, timeout=30) as answer:
                assert b"first" in answer.read()
            with pytest.raises(urllib.error.HTTPError, match="403"):
                urllib.request.build_opener().open(address.partition("?")[0], timeout=30)
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(30) in (0, 130)
