"""The error tree: exit codes and words."""

from __future__ import annotations

import pytest

from gcsam_med import errors
from gcsam_med.errors import (
    DataFaults,
    EnvironmentFault,
    Fault,
    GcsamMedError,
    Interrupted,
    MissingExtra,
    unknown_name,
)

CODES = {
    "InputError": 2,
    "ConfigError": 2,
    "DataFaults": 2,
    "EnvironmentFault": 3,
    "MissingExtra": 3,
    "CheckpointError": 4,
}


@pytest.mark.parametrize(("name", "code"), CODES.items())
def test_every_error_has_the_promised_exit_code(name, code):
    """Oracle: the table of exit codes in the documentation."""
    kind = getattr(errors, name)
    assert issubclass(kind, GcsamMedError)
    assert kind.exit_code == code


def test_no_error_is_left_out_of_the_table():
    found = {
        name
        for name, kind in vars(errors).items()
        if isinstance(kind, type)
        and issubclass(kind, GcsamMedError)
        and kind not in {GcsamMedError, Interrupted}
    }
    assert found == set(CODES)


@pytest.mark.parametrize("code", [130, 143])
def test_an_interruption_carries_the_code_of_its_signal(code):
    """Oracle: the shell's convention, 128 + the signal's number."""
    assert Interrupted("Stopped.", "Go on.", code).exit_code == code


def test_a_message_comes_with_its_advice_on_a_second_line():
    assert str(EnvironmentFault("No disk.", "Buy one.")) == "No disk.\nBuy one."
    assert str(EnvironmentFault("No disk.")) == "No disk."


def test_a_missing_extra_says_how_to_install_it():
    assert 'pip install "gcsam-med[dicom]"' in MissingExtra("JPEG 2000", "dicom").advice


def test_faults_of_a_data_set_are_all_kept():
    faults = [Fault("a.png", "truncated"), Fault("b.png", "empty", "no pixel")]
    assert DataFaults("2 bad files.", iter(faults)).faults == tuple(faults)


@pytest.mark.parametrize(
    ("name", "hint"),
    [("gcsamm", "Did you mean 'gcsam'"), ("SAM", "'sam'"), ("adm", "'adam'"), ("zzz", "")],
)
def test_unknown_names_get_the_nearest_known_ones(name, hint):
    error = unknown_name("optimizer", name, ["sam", "gcsam", "adam"])
    assert error.message == f"Unknown optimizer '{name}'."
    assert hint in error.advice
    assert ("Did you mean" in error.advice) == bool(hint)
    assert error.advice.endswith("Known: adam, gcsam, sam.")
