"""What all tests share."""

from __future__ import annotations

import os

from hypothesis import settings

# Whoever starts the tests in several processes may tell them a width; lines of output are looked at whole.
os.environ.pop("COLUMNS", None)

# Machines that run several things at once are slow now and then; a test is not wrong for that.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")
