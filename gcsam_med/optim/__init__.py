"""Sharpness-aware minimization: SAM, GCSAM and relatives, as an ascent beside any torch optimizer.

Needs torch and nothing else. The shortest use is `build` and `training_step`; the parts are `Sharpness`,
whose `perturbed` is a context around the second backward pass, `frozen_batchnorm` and `RandomState`. `SAM`
and `GCSAM` are for code written for the usual wrapper.
"""

from gcsam_med.optim.centralize import centralize, is_centralized
from gcsam_med.optim.dropin import GCSAM, SAM
from gcsam_med.optim.gsam import GSAM
from gcsam_med.optim.looksam import LookSAM
from gcsam_med.optim.methods import BASES, OPTIMIZERS, Method, build
from gcsam_med.optim.msam import MomentumSAM
from gcsam_med.optim.replay import BufferSnapshot, RandomState, frozen_batchnorm
from gcsam_med.optim.schedule import RHO_SCHEDULES, rho_factor
from gcsam_med.optim.sharpness import Sharpness
from gcsam_med.optim.step import StepResult, leading_part, training_step

__all__ = [
    "BASES",
    "GCSAM",
    "GSAM",
    "OPTIMIZERS",
    "RHO_SCHEDULES",
    "SAM",
    "BufferSnapshot",
    "LookSAM",
    "Method",
    "MomentumSAM",
    "RandomState",
    "Sharpness",
    "StepResult",
    "build",
    "centralize",
    "frozen_batchnorm",
    "is_centralized",
    "leading_part",
    "rho_factor",
    "training_step",
]
