"""Flows, without networks: paths, losses, bases, the ODE solver and densities.

Time runs from noise at t = 0 to data at t = 1.
"""

from icl_bayes.flow.bases import (
    BASES,
    GAUSSIAN_BASES,
    LIKELIHOOD_BASES,
    Affine,
    affine_from_curvature,
    identity_affine,
    laplace_approximation,
)
from icl_bayes.flow.denoiser import MAX_DENOISED, importance_denoiser
from icl_bayes.flow.density import MAX_RESIDUAL, Inverse, invert, log_normal, value_and_log_det
from icl_bayes.flow.divergence import Gap, Hellinger, gap_at, hellinger
from icl_bayes.flow.gaussian_modes import GaussianModes, find_modes
from icl_bayes.flow.losses import (
    DIVERGENCES,
    LOSSES,
    Example,
    Pool,
    Spread,
    balanced_loss,
    make_loss,
    stratified_times,
    student_loss,
)
from icl_bayes.flow.mode_search import Mode, NewtonInfo, find_mode
from icl_bayes.flow.noise import Noise
from icl_bayes.flow.ode import METHODS, Solution, Solver, solve
from icl_bayes.flow.paths import PATHS, Path, make_path
from icl_bayes.flow.pilots import pilot_gaussian, pilot_sample
from icl_bayes.flow.transport import trace_back, transport
from icl_bayes.flow.variational import variational_gaussian

__all__ = [
    "BASES",
    "DIVERGENCES",
    "GAUSSIAN_BASES",
    "LIKELIHOOD_BASES",
    "LOSSES",
    "MAX_DENOISED",
    "MAX_RESIDUAL",
    "METHODS",
    "PATHS",
    "Affine",
    "Example",
    "Gap",
    "GaussianModes",
    "Hellinger",
    "Inverse",
    "Mode",
    "NewtonInfo",
    "Noise",
    "Path",
    "Pool",
    "Solution",
    "Solver",
    "Spread",
    "affine_from_curvature",
    "balanced_loss",
    "find_mode",
    "find_modes",
    "gap_at",
    "hellinger",
    "identity_affine",
    "importance_denoiser",
    "invert",
    "laplace_approximation",
    "log_normal",
    "make_loss",
    "make_path",
    "pilot_gaussian",
    "pilot_sample",
    "solve",
    "stratified_times",
    "student_loss",
    "trace_back",
    "transport",
    "value_and_log_det",
    "variational_gaussian",
]
