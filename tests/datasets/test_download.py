"""Downloads against a server of our own: whole, resumed, wrong, and without network."""

from __future__ import annotations

import hashlib
import http.server
import sys
import threading
import types
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gcsam_med.datasets import DATASETS, Download
from gcsam_med.datasets.download import fetch, sha256_of
from gcsam_med.errors import EnvironmentFault, InputError, MissingExtra

CONTENT = bytes(range(256)) * 12_000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serves CONTENT; remembers what was asked for."""

    ranges: bool = True
    cut: int = 0
    asked: list[str]


class Handler(http.server.BaseHTTPRequestHandler):
    """Understands Range."""

    server: Server

    def do_GET(self) -> None:
        if self.path == "/missing.zip":
            self.send_error(404)
            return
        wanted = self.headers.get("Range", "")
        self.server.asked.append(wanted)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.server.ranges else 0
        if start >= len(CONTENT):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        self.wfile.write(CONTENT[start : self.server.cut or None])

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as running:
        running.asked = []
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def spec_of(server: Server, path: str = "data.zip", known: str | None = f"sha256:{SHA256}"):  # type: ignore[no-untyped-def]
    url = f"http://127.0.0.1:{server.server_port}/{path}"
    return replace(DATASETS["busi"], download=Download(url, known))


def test_a_file_arrives_whole_and_is_not_fetched_twice(server: Server, tmp_path: Path) -> None:
    """Oracle: the bytes served; the second call asks for nothing."""
    for _ in range(2):
        path = fetch("busi", spec_of(server), tmp_path / "downloads")
        assert path.read_bytes() == CONTENT
    assert server.asked == [""]
    assert sha256_of(path) == SHA256


def test_an_interrupted_download_goes_on_where_it_was(server: Server, tmp_path: Path) -> None:
    """The connection breaks after 2.5 million bytes; the next run asks for the rest only."""
    server.cut = 2_500_000
    with pytest.raises(EnvironmentFault, match="cannot be reached"):
        fetch("busi", spec_of(server), tmp_path)
    have = (tmp_path / "data.zip.part").stat().st_size
    assert 0 < have <= server.cut
    server.cut = 0
    assert fetch("busi", spec_of(server), tmp_path).read_bytes() == CONTENT
    assert server.asked == ["", f"bytes={have}-"]


def test_a_server_that_cannot_resume_sends_all_again(server: Server, tmp_path: Path) -> None:
    """The part is overwritten, not appended to."""
    (tmp_path / "data.zip.part").write_bytes(CONTENT[:1000])
    server.ranges = False
    assert fetch("busi", spec_of(server), tmp_path).read_bytes() == CONTENT


def test_a_part_that_is_already_whole_is_taken(server: Server, tmp_path: Path) -> None:
    """Killed between the last byte and the renaming."""
    (tmp_path / "data.zip.part").write_bytes(CONTENT)
    assert fetch("busi", spec_of(server), tmp_path).read_bytes() == CONTENT


def test_a_wrong_hash_is_refused_and_nothing_is_kept(server: Server, tmp_path: Path) -> None:
    """An error page instead of the file."""
    with pytest.raises(EnvironmentFault, match="its sha256 is not the published one"):
        fetch("busi", spec_of(server, known="sha256:" + "0" * 64), tmp_path)
    assert not (tmp_path / "data.zip").exists()


def test_no_network_and_no_file_end_with_exit_code_3(server: Server, tmp_path: Path) -> None:
    """A closed port, and 404."""
    closed = replace(DATASETS["busi"], download=Download("http://127.0.0.1:9/x.zip"))
    for spec in (closed, spec_of(server, "missing.zip", None)):
        with pytest.raises(EnvironmentFault) as caught:
            fetch("busi", spec, tmp_path)
        assert caught.value.exit_code == 3
        assert "--source" in caught.value.advice


def test_kaggle_is_used_where_it_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for kagglehub; its errors become ours."""
    fake = types.ModuleType("kagglehub")
    fake.dataset_download = lambda handle: str(tmp_path / handle.replace("/", "-"))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "kagglehub", fake)
    spec = DATASETS["lungs"]
    assert fetch("lungs", spec, tmp_path).name == spec.kaggle.replace("/", "-")

    def fail(handle: str) -> str:
        raise OSError(handle)

    fake.dataset_download = fail  # type: ignore[attr-defined]
    with pytest.raises(EnvironmentFault, match="could not be downloaded"):
        fetch("lungs", spec, tmp_path)
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(MissingExtra, match="kaggle"):
        fetch("lungs", spec, tmp_path)


def test_private_sources_have_no_address(tmp_path: Path) -> None:
    """--download with --dataset folder."""
    with pytest.raises(InputError, match="No public address"):
        fetch("folder", DATASETS["folder"], tmp_path)
