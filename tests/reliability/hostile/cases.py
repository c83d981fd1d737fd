"""Inputs made to break a program, and the commands that they are given to.

Each entry of `CASES` spoils a copy of a sound project (a source, a prepared set, a run, a second run) and
names the commands to try, with the exit code that each should give.
"""

from __future__ import annotations

from tests.reliability.hostile.data import prepared_sets, split_files
from tests.reliability.hostile.project import Case
from tests.reliability.hostile.runs import runs
from tests.reliability.hostile.settings import settings
from tests.reliability.hostile.sources import archives, images
from tests.reliability.hostile.studies import studies

CASES: dict[str, Case] = dict(
    [*prepared_sets(), *settings(), *runs(), *archives(), *split_files(), *images(), *studies()]
)
