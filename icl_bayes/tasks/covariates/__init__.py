"""Priors over covariate tables, chosen by name.

``make_covariate_prior("tabular", binary_weight=0.3).sample(rng_key, num_columns, row_mask)``
returns a table of standardised columns; see :class:`CovariatePrior` for the contract.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from icl_bayes.tasks.covariates.base import CovariatePrior
from icl_bayes.tasks.covariates.elementary import GaussianCovariates, UniformCovariates
from icl_bayes.tasks.covariates.mixture import MixtureCovariates
from icl_bayes.tasks.covariates.structural import StructuralCovariates
from icl_bayes.tasks.covariates.tabular import TabularCovariates

__all__ = [
    "COVARIATE_PRIORS",
    "CovariatePrior",
    "GaussianCovariates",
    "MixtureCovariates",
    "StructuralCovariates",
    "TabularCovariates",
    "UniformCovariates",
    "make_covariate_prior",
]

COVARIATE_PRIORS: dict[str, type[Any]] = {
    prior.name: prior
    for prior in (GaussianCovariates, UniformCovariates, TabularCovariates, StructuralCovariates, MixtureCovariates)
}


def make_covariate_prior(name: str, **options: Any) -> CovariatePrior:
    """The covariate prior of that name.

    Args:
        name: ``gaussian``, ``uniform``, ``tabular``, ``structural`` or ``mixture``.
        **options: fields of the prior's class. The components of a ``mixture`` may be given as
            mappings of their own options, e.g. ``tabular={"binary_weight": 0.3}``.

    Raises:
        ValueError: for an unknown name or option (the choices are listed) or a value out of range.
    """
    if name not in COVARIATE_PRIORS:
        raise ValueError(f"Unknown covariate prior {name!r}. {_choices(name, list(COVARIATE_PRIORS))}")
    known = [field.name for field in fields(COVARIATE_PRIORS[name])]
    for option, value in options.items():
        if option not in known:
            raise ValueError(f"Covariate prior '{name}' has no option {option!r}. {_choices(option, known)}")
        if isinstance(value, Mapping):
            if option not in COVARIATE_PRIORS:
                raise ValueError(f"Option {option!r} of covariate prior '{name}' is a number; received {value!r}.")
            options[option] = make_covariate_prior(option, **value)
    return COVARIATE_PRIORS[name](**options)


def _choices(given: str, known: list[str]) -> str:
    close = difflib.get_close_matches(str(given), known, n=1)
    hint = f"Did you mean {close[0]!r}? " if close else ""
    return f"{hint}Choose from: {', '.join(known)}."
