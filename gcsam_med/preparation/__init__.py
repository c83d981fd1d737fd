"""From a source's files to a prepared data set: read, check, group, split, store. Imports no torch."""

from gcsam_med.config import PrepareOptions
from gcsam_med.preparation.merge import merge
from gcsam_med.preparation.overlap import overlap
from gcsam_med.preparation.prepare import Outcome, prepare, survey
from gcsam_med.preparation.shortcuts import probe

__all__ = ["Outcome", "PrepareOptions", "merge", "overlap", "prepare", "probe", "survey"]
