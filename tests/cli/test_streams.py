"""Closed or broken streams and old encodings end no command; foreign text is shown as it stands."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gcsam_med.cli import console, run

LISTING = [sys.executable, "-m", "gcsam_med", "list", "datasets"]
# What a terminal would act on, and what is no text, is replaced; all other characters are to be seen.
SHOWABLE = st.text(
    st.characters(blacklist_categories=("Cc", "Cs"), blacklist_characters="\u202a\u202b\u202c\u202d\u202e"
                  "\u2066\u2067\u2068\u2069"),
    min_size=1, max_size=60,
)  # fmt: skip


def _written(text: str, how: str) -> str:
    voice = console.voice
    streams = voice.err, voice.out
    file = io.StringIO()
    try:
        voice.err = voice.out = console.Console(file=file, width=2000, soft_wrap=True, highlight=False)
        if how == "table":
            console.table(text, [text], [(text,)])
        elif how == "result":
            console.result({}, text)
        else:
            getattr(console, how)(text)
    finally:
        voice.err, voice.out = streams
    return file.getvalue()


@pytest.mark.parametrize("how", ["say", "warn", "result", "table"])
@given(text=SHOWABLE)
def test_any_text_is_shown_whole(how: str, text: str) -> None:
    """Oracle: the text itself, markup such as [red] or [/] included; a table may strip spaces at its ends."""
    shown = _written(text, how)
    assert text.strip() in shown


@pytest.mark.parametrize("text", ["[/]", "[red]a[/red]", "a\\", "[link=file:///x]y", "\x1b[31mred", "a\rb"])
def test_markup_is_text_and_control_characters_are_replaced(text: str) -> None:
    shown = _written(text, "say")
    assert shown.rstrip("\n") == text.replace("\x1b", "\ufffd").replace("\r", "\ufffd")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_end_no_command(closed: str, tmp_path: Path) -> None:
    """Oracle: exit 0, and what stays open shows the list."""
    done = subprocess.run(
        ["bash", "-c", f'"$@" {closed}', "bash", *LISTING], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert ("busi" in done.stdout) == (">&-" not in closed.replace("2>&-", ""))


def test_a_reader_that_leaves_ends_no_command() -> None:
    """Oracle: bash's pipefail: the command's own exit code is 0 though nobody reads."""
    script = 'set -o pipefail; "$@" --json 2>&1 | head -c 1 >/dev/null'
    done = subprocess.run(
        ["bash", "-c", script, "bash", *LISTING], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_an_old_encoding_shows_escapes() -> None:
    """Oracle: a stream of latin-1 takes what it can and escapes the rest."""
    raw = io.BytesIO()
    stream = console.Surviving(io.TextIOWrapper(raw, encoding="latin-1"))
    stream.write("für 患者\n")
    stream.flush()
    assert raw.getvalue() == "für \\u60a3\\u8005\n".encode("latin-1")


@pytest.mark.parametrize("columns", ["0", "-3", "x"])
def test_a_senseless_width_is_ignored(columns: str) -> None:
    done = subprocess.run(
        LISTING, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": columns}
    )
    assert "busi" in done.stdout


def test_python_files_of_the_working_directory_are_not_run(tmp_path: Path) -> None:
    """Oracle: files with the names of modules that are used would leave a mark."""
    for name in ("yaml", "typer", "rich", "signal", "numpy"):
        (tmp_path / f"{name}.py").write_text("open('ran', 'w')\n")
    done = subprocess.run(LISTING, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "ran").exists()


def test_an_error_names_a_path_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "[red]a[/]"
    assert run(["evaluate", str(folder)]) == 2
    assert str(folder) in capsys.readouterr().err
