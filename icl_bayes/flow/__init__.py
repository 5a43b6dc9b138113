"""Flows, without networks: paths, losses, bases and the ODE solver.

Time runs from noise at t = 0 to data at t = 1.
"""

from icl_bayes.flow.bases import BASES, Affine, affine_from_curvature, find_mode, identity_affine, laplace_approximation
from icl_bayes.flow.losses import LOSSES, Example, make_loss, stratified_times
from icl_bayes.flow.ode import METHODS, Solution, Solver, solve
from icl_bayes.flow.paths import PATHS, Path, make_path

__all__ = [
    "BASES",
    "LOSSES",
    "METHODS",
    "PATHS",
    "Affine",
    "Example",
    "Path",
    "Solution",
    "Solver",
    "affine_from_curvature",
    "find_mode",
    "identity_affine",
    "laplace_approximation",
    "make_loss",
    "make_path",
    "solve",
    "stratified_times",
]
