"""The command line as a whole: exit codes, help, version, names nearly right, completion."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable

import pytest
import typer

from gcsam_med import __version__
from gcsam_med.cli import COMMANDS, main, run
from gcsam_med.cli import info as listing
from gcsam_med.errors import (
    CheckpointError,
    ConfigError,
    DataFaults,
    EnvironmentFault,
    Fault,
    InputError,
    MissingExtra,
)


def _python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **environment},
    )


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"gcsam-med {__version__}\n"


def test_module_and_script_are_the_same_program() -> None:
    """Oracle: `python -m gcsam_med`, which torchrun needs, prints what the script does."""
    done = _python("-m", "gcsam_med", "--version")
    assert (done.returncode, done.stdout) == (0, f"gcsam-med {__version__}\n")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([name, "--help"]) == 0
    out = capsys.readouterr().out
    assert f"Usage: gcsam-med {name}" in out
    for option in ("--quiet", "--verbose", "--json", "--debug"):
        assert option in out


def test_no_command_shows_help_as_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 2
    assert "Usage: gcsam-med" in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("typed", "meant"), [("trian", "train"), ("evalute", "evaluate"), ("docter", "doctor"), ("lst", "list")]
)
def test_a_mistyped_command_gets_the_nearest(
    typed: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([typed, "--anything"]) == 2
    err = capsys.readouterr().err
    assert f"Unknown command '{typed}'" in err
    assert f"'{meant}'" in err
    assert "Traceback" not in err


def test_an_unknown_option_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--data-rot", "x"]) == 2
    err = capsys.readouterr().err
    assert "--data-rot" in err
    assert "--data-root" in err


ENDINGS: list[tuple[BaseException, int, str]] = [
    (InputError("Expected a, found b.", "Do c."), 2, "Do c."),
    (ConfigError("No."), 2, "No."),
    (DataFaults("Two bad files.", [Fault("x.png", "truncated", "ends early")]), 2, "truncated"),
    (EnvironmentFault("No disk.", "Free some."), 3, "Free some."),
    (MissingExtra("DICOM SEG", "dicom"), 3, 'pip install "gcsam-med[dicom]"'),
    (CheckpointError("Corrupt."), 4, "Corrupt."),
    (MemoryError(), 3, "Out of memory"),
    (KeyboardInterrupt(), 130, ""),
    (typer.Exit(143), 143, ""),
    (OSError(errno.ENOSPC, "No space left", "/secret.png"), 3, "The disk is full."),
    (PermissionError(errno.EACCES, "Permission denied", "/secret.png"), 3, "--debug shows which file"),
    (FileNotFoundError(errno.ENOENT, "gone", "/secret.png"), 1, "A bug in gcsam-med: FileNotFoundError"),
    (RuntimeError("/home/someone/secret.png"), 1, "A bug in gcsam-med: RuntimeError"),
]


def _raising(error: BaseException) -> Callable[[], listing._Listing]:
    def table() -> listing._Listing:
        raise error

    return table


@pytest.mark.parametrize(("error", "code", "said"), ENDINGS, ids=lambda v: type(v).__name__)
def test_exit_codes(
    error: BaseException,
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Oracle: the contract's exit codes; the text of a bug of ours is not shown, as it may quote data."""
    monkeypatch.setitem(listing.LISTINGS, "models", _raising(error))
    assert run(["list", "models"]) == code
    captured = capsys.readouterr()
    assert said in captured.err
    assert "Traceback" not in captured.err
    assert "secret" not in captured.err
    assert captured.out == ""


def test_debug_shows_where_it_broke(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for error, code in ((RuntimeError("deep inside"), 1), (InputError("Expected a."), 2)):
        monkeypatch.setitem(listing.LISTINGS, "models", _raising(error))
        assert run(["list", "models", "--debug"]) == code
        assert "Traceback" in capsys.readouterr().err


def test_main_leaves_the_process_with_the_code() -> None:
    with pytest.raises(SystemExit) as stop:
        main(["nothing"])
    assert stop.value.code == 2


def test_ctrl_c_from_the_keyboard_ends_with_130() -> None:
    """Oracle: 128 + SIGINT, in a process of its own that gets the real signal."""
    done = _python(
        "-c",
        "import os, signal\n"
        # A process started in the background of a script ignores it from birth.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from gcsam_med.cli import info as listing, main\n"
        "listing.LISTINGS['models'] = lambda: os.kill(os.getpid(), signal.SIGINT)\n"
        "main(['list', 'models'])",
    )
    assert done.returncode == 130
    assert "Traceback" not in done.stderr


def test_output_that_nobody_reads_is_no_bug() -> None:
    """Oracle: `gcsam-med list models | head -1` is ordinary use."""
    with subprocess.Popen(
        [sys.executable, "-m", "gcsam_med", "list", "models", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        err = process.stderr.read()
    assert "A bug in" not in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("words", "place", "expected"),
    [
        ("gcsam-med do", 1, ["doctor"]),
        ("gcsam-med list mo", 2, ["models"]),
        ("gcsam-med doctor --data", 2, ["--data-root"]),
    ],
)
def test_shell_completion(words: str, place: int, expected: list[str]) -> None:
    """Oracle: the variables that bash sets while it completes."""
    done = _python(
        "-m",
        "gcsam_med",
        _GCSAM_MED_COMPLETE="complete_bash",
        COMP_WORDS=words,
        COMP_CWORD=str(place),
    )
    assert done.stdout.split() == expected


def test_completion_can_be_installed_for_bash() -> None:
    # Typer asks the parent process for its shell, and a test may have none.
    done = _python(
        "-m", "gcsam_med", "--show-completion", "bash", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1"
    )
    assert "_GCSAM_MED_COMPLETE=complete_bash" in done.stdout
