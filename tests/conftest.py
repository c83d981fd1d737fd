"""What all tests share."""

from __future__ import annotations

from hypothesis import settings

# Machines that run several things at once are slow now and then; a test is not wrong for that.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")
