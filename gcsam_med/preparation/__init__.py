"""From a source's files to a prepared data set: read, check, group, split, store. Imports no torch."""

from gcsam_med.preparation.options import PrepareOptions
from gcsam_med.preparation.prepare import Outcome, prepare

__all__ = ["Outcome", "PrepareOptions", "prepare"]
