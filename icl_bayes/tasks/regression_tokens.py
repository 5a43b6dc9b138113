"""Regressions as tokens: one per coefficient, whatever their number, each with its prior."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from icl_bayes.tasks.coefficient_priors import KINDS
from icl_bayes.tasks.latent_program import LatentProgram
from icl_bayes.tasks.token_view import LinearPredictor, TokenView, bounded, make_scores, row_cells
from icl_bayes.types import Array, Dataset

NUM_RESPONSES = 7
ROLES = ("intercept", "beta", "dispersion")
USUAL_ROWS, MAX_KNOWN_ROWS = 50.0, 512.0
"""More rows than that look alike: posteriors are near their Gaussians by then."""


class Priors(NamedTuple):
    """Of all coordinates, ``(dim,)`` each: kind, shape, and whether there is one at all."""

    kind: Array
    shape: Array
    exists: Array


def view_of(
    task: LatentProgram,
    linear: Callable[[Array, Dataset], Array],
    priors: Priors,
    roles: Sequence[int],
    dataset: Dataset,
    shift: Array,
    scale: Array,
    *,
    code: Any,
) -> TokenView:
    """The tokens of a regression.

    Args:
        task: whose rows depend on coefficients through ``linear``, ``(theta, dataset) -> (n,)``.
        roles: ``(dim,)``, indices into :data:`ROLES`.
        shift, scale: ``(dim,)`` and ``(dim, dim)``, the Gaussian that whitens.
        code: of the family, from 0 to 6.
    """
    model = LinearPredictor(linear, task.log_likelihood, task.log_prior)
    cells, shares, sd = row_cells(model, dataset, shift, scale)
    context = _context(priors, roles, dataset, shift, scale, code)
    return TokenView(cells, shares, context, dataset.row_mask, make_scores(model, dataset, scale, sd))


def _context(priors: Priors, roles: Sequence[int], dataset: Dataset, shift: Array, scale: Array, code: Any) -> Array:
    exists, kind = jnp.asarray(priors.exists, jnp.float32), priors.kind
    own = jnp.sqrt(jnp.sum(scale**2, axis=1))
    num_tokens = jnp.sum(exists)
    num_rows = dataset.num_rows
    everywhere = jnp.concatenate(
        [
            jnp.asarray(code == np.arange(NUM_RESPONSES), jnp.float32),
            jnp.stack(
                [
                    jnp.log(jnp.minimum(num_rows, MAX_KNOWN_ROWS) / USUAL_ROWS),
                    jnp.log(num_tokens) - 2.0,
                    jnp.clip(jnp.log(num_rows / num_tokens), -3.0, 4.0) - 1.5,
                ]
            ),
        ]
    )
    columns = [
        exists[:, None],
        jnp.asarray(np.eye(len(ROLES), dtype=np.float32)[list(roles)]),
        (kind[:, None] == jnp.arange(len(KINDS))).astype(jnp.float32),
        jax.lax.rsqrt(jnp.asarray(priors.shape))[:, None],
        bounded(jnp.log(own))[:, None],
        bounded(shift)[:, None],
        jnp.broadcast_to(everywhere, (len(roles), len(everywhere))),
    ]
    return jnp.concatenate(columns, axis=1)
