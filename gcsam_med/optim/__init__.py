"""Sharpness-aware minimization: SAM, GCSAM and relatives, as an ascent beside any torch optimizer.

Needs torch and nothing else. The shortest use is `build` and `training_step`; the parts are `Sharpness`,
whose `perturbed` is a context around the second backward pass, `frozen_batchnorm` and `RandomState`. `SAM`
and `GCSAM` are for code written for the usual wrapper.
"""

from gcsam_med.optim.ascent import centralize, is_centralized
from gcsam_med.optim.dropin import GCSAM, SAM
from gcsam_med.optim.options import OPTIONS, Option
from gcsam_med.optim.relatives import GSAM, FriendlySAM, LookSAM, MomentumSAM
from gcsam_med.optim.replay import BufferSnapshot, RandomState, frozen_batchnorm
from gcsam_med.optim.sharpness import Sharpness
from gcsam_med.optim.step import StepResult, leading_part, training_step
from gcsam_med.optim.table import BASES, OPTIMIZERS, RHO_SCHEDULES, Method, build, check_taken, rho_factor

__all__ = [
    "BASES",
    "GCSAM",
    "GSAM",
    "OPTIMIZERS",
    "OPTIONS",
    "RHO_SCHEDULES",
    "SAM",
    "BufferSnapshot",
    "FriendlySAM",
    "LookSAM",
    "Method",
    "MomentumSAM",
    "Option",
    "RandomState",
    "Sharpness",
    "StepResult",
    "build",
    "centralize",
    "check_taken",
    "frozen_batchnorm",
    "is_centralized",
    "leading_part",
    "rho_factor",
    "training_step",
]
