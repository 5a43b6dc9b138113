"""A weighted choice among the other covariate priors, drawn per data set."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import jax
import jax.numpy as jnp

from icl_bayes.tasks.covariates.base import Array, CovariatePrior, check_arguments, check_range
from icl_bayes.tasks.covariates.elementary import GaussianCovariates, UniformCovariates
from icl_bayes.tasks.covariates.structural import StructuralCovariates
from icl_bayes.tasks.covariates.tabular import TabularCovariates

COMPONENTS = ("gaussian", "uniform", "tabular", "structural")


@dataclass(frozen=True)
class MixtureCovariates:
    """Each data set comes from one of the component priors.

    Under ``vmap`` all components with a positive weight are evaluated and one is kept, so the
    cost is the sum of theirs; a weight of zero removes the component altogether.

    Attributes:
        gaussian_weight: relative frequency of ``gaussian`` tables.
        uniform_weight: relative frequency of ``uniform`` tables.
        tabular_weight: relative frequency of ``tabular`` tables.
        structural_weight: relative frequency of ``structural`` tables.
        gaussian: that component with its options; likewise the other three.
        uniform: see ``gaussian``.
        tabular: see ``gaussian``.
        structural: see ``gaussian``.
    """

    name: ClassVar[str] = "mixture"
    gaussian_weight: float = 0.1
    uniform_weight: float = 0.1
    tabular_weight: float = 0.5
    structural_weight: float = 0.3
    gaussian: GaussianCovariates = field(default_factory=GaussianCovariates)
    uniform: UniformCovariates = field(default_factory=UniformCovariates)
    tabular: TabularCovariates = field(default_factory=TabularCovariates)
    structural: StructuralCovariates = field(default_factory=StructuralCovariates)

    def __post_init__(self) -> None:
        for component in COMPONENTS:
            check_range(self.name, f"{component}_weight", getattr(self, f"{component}_weight"), 0.0)
        if not self.components:
            raise ValueError(f"Covariate prior '{self.name}' needs a positive weight for at least one of {COMPONENTS}.")

    @property
    def components(self) -> tuple[tuple[CovariatePrior, float], ...]:
        """Priors in use with their probabilities, which sum to one."""
        pairs = [(getattr(self, component), float(getattr(self, f"{component}_weight"))) for component in COMPONENTS]
        total = sum(weight for _, weight in pairs)
        return tuple((prior, weight / total) for prior, weight in pairs if weight > 0.0)

    def sample(self, rng_key: Array, num_columns: int, row_mask: Array) -> Array:
        """One table ``(n, p)``; see :class:`~icl_bayes.tasks.covariates.CovariatePrior`."""
        check_arguments(num_columns, row_mask)
        choice_key, *component_keys = jax.random.split(rng_key, 1 + len(COMPONENTS))
        keys: dict[str, Array] = dict(zip(COMPONENTS, component_keys, strict=True))
        draw = jax.random.uniform(choice_key, (), jnp.float32)
        (prior, passed), *others = self.components
        table = prior.sample(keys[prior.name], num_columns, row_mask)
        for prior, weight in others:
            table = jnp.where(draw >= passed, prior.sample(keys[prior.name], num_columns, row_mask), table)
            passed += weight
        return table
