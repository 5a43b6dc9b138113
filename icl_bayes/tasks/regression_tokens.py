"""Regressions as tokens: one per coefficient, whatever their number, each with its prior."""

from __future__ import annotations

from typing import Any

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


def view_of(task: LatentProgram, dataset: Dataset, shift: Array, scale: Array, *, code: Any) -> TokenView:
    """The tokens of a regression.

    Args:
        task: with sites ``intercept``, ``beta`` and a dispersion, or some of them, and their priors as constants.
        shift, scale: ``(dim,)`` and ``(dim, dim)``, the Gaussian that whitens.
        code: of the family, from 0 to 6.
    """

    def linear(theta: Array, dataset: Dataset) -> Array:
        sites = task.constrain(theta, dataset)
        found = jnp.zeros(dataset.padded_rows)
        constants = dataset.constants
        if "intercept" in sites:
            found = found + constants.get("has_intercept", 1.0) * sites["intercept"]
        if "beta" in sites:
            found = found + dataset["x"] @ (sites["beta"] * constants.get("column_mask", 1.0))
        return found

    model = LinearPredictor(linear, task.log_likelihood, task.log_prior)
    cells, shares, sd = row_cells(model, dataset, shift, scale)
    context = _context(task, dataset, shift, scale, code)
    return TokenView(cells, shares, context, dataset.row_mask, make_scores(model, dataset, scale, sd))


def _context(task: LatentProgram, dataset: Dataset, shift: Array, scale: Array, code: Any) -> Array:
    constants = dataset.constants
    kinds, shapes, roles, exist = [], [], [], []
    for name, site in task.sites.items():
        role = name if name in ROLES else "dispersion"
        roles += [ROLES.index(role)] * site.size
        kinds.append(jnp.broadcast_to(constants[f"{role}_kind"], (site.size,)))
        shapes.append(jnp.broadcast_to(constants[f"{role}_shape"], (site.size,)))
        flag = {"intercept": "has_intercept", "beta": "column_mask", "dispersion": "has_dispersion"}[role]
        exist.append(jnp.broadcast_to(constants.get(flag, 1.0), (site.size,)))
    exists = jnp.concatenate(exist).astype(jnp.float32)
    kind = jnp.concatenate(kinds)
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
        jnp.asarray(np.eye(len(ROLES), dtype=np.float32)[roles]),
        (kind[:, None] == jnp.arange(len(KINDS))).astype(jnp.float32),
        jax.lax.rsqrt(jnp.concatenate(shapes))[:, None],
        bounded(jnp.log(own))[:, None],
        bounded(shift)[:, None],
        jnp.broadcast_to(everywhere, (len(roles), len(everywhere))),
    ]
    return jnp.concatenate(columns, axis=1)
