"""Where a noisy view of a mixture's parameters points to, by the conjugate step of the EM algorithm.

Given which component every row belongs to, all parameters have closed posteriors (gamma, inverse gamma, normal), which
in the coordinates of ``theta`` are nearly Gaussian. With responsibilities in place of labels and a noisy view as a
further observation, their means estimate the conditional mean that a flow's velocity is made of: exact in the limit of
components that are far apart, or of little noise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from icl_bayes.tasks.coordinates import log_gamma_from_normal, normal_from_log_gamma
from icl_bayes.tasks.normal_mixture import log_component_densities, mean_of_rows
from icl_bayes.types import Array, Dataset

NUM_STEPS = 2
"""Of responsibilities and conjugate means; the first starts at the noisy view, shrunk as under the prior."""


class Denoised(NamedTuple):
    """Estimates from a noisy view of theta.

    Attributes:
        mean: ``(dim,)``, of theta given data and view.
        center: ``(dim,)``, of theta given the data alone, with the same responsibilities.
    """

    mean: Array
    center: Array


class _Information(NamedTuple):
    """Precision of theta given the labels, times the variance of a view's noise, plus ``alpha^2``: as a matrix it has
    these entries on the diagonal, and ``cross`` between a component's sigma2 and mu of one column."""

    gamma: Array
    sigma2: Array
    mu: Array
    cross: Array

    def solve(self, right: _Blocks) -> _Blocks:
        """The inverse times a vector."""
        determinant = self.sigma2 * self.mu - self.cross**2
        return _Blocks(
            right.gamma / self.gamma,
            (self.mu * right.sigma2 - self.cross * right.mu) / determinant,
            (self.sigma2 * right.mu - self.cross * right.sigma2) / determinant,
        )


class _Blocks(NamedTuple):
    """``theta``: gamma ``(M,)``, sigma2 ``(M, L)`` and mu ``(M, L)``, each standard normal under the prior."""

    gamma: Array
    sigma2: Array
    mu: Array


def make_denoiser(num_components: int, num_columns: int) -> Callable[[Array, Array, Array, Dataset], Denoised]:
    """The denoiser of a mixture whose theta holds gamma ``(M,)``, sigma2 ``(M, L)`` and mu ``(M, L)``, in that order.

    Returns:
        ``(x (dim,), alpha (), sigma (), dataset) -> Denoised`` for the view ``x = alpha theta + sigma noise``.
    """
    split = _splitter(num_components, num_columns)

    def denoise(x: Array, alpha: Array, sigma: Array, dataset: Dataset) -> Denoised:
        view = split(x)
        point = split(alpha / (alpha**2 + sigma**2) * x)
        center = point
        for _ in range(NUM_STEPS):
            point, center, _ = _step(point, view, alpha, sigma, dataset)
        return Denoised(_join(point), _join(center))

    return denoise


def make_spread(num_components: int, num_columns: int) -> Callable[[Array, Array, Array, Dataset, Array], Array]:
    """The covariance of theta given data, a view of it and the responsibilities that the denoiser ends with.

    Smaller than the covariance given data and view by what the labels are uncertain.

    Returns:
        ``(x (dim,), alpha (), sigma (), dataset, vector (dim,)) -> (dim,)``, the covariance times the vector.
    """
    split = _splitter(num_components, num_columns)

    def spread(x: Array, alpha: Array, sigma: Array, dataset: Dataset, vector: Array) -> Array:
        view = split(x)
        point = split(alpha / (alpha**2 + sigma**2) * x)
        for _ in range(NUM_STEPS - 1):
            point, _, _ = _step(point, view, alpha, sigma, dataset)
        information = _step(point, view, alpha, sigma, dataset)[2]
        return sigma**2 * _join(information.solve(split(vector)))

    return spread


def make_em_step(num_components: int, num_columns: int) -> Callable[[Array, Dataset], Array]:
    """One step ``(theta (dim,), dataset) -> theta`` towards a mode of the posterior."""
    split = _splitter(num_components, num_columns)

    def em_step(theta: Array, dataset: Dataset) -> Array:
        point = split(theta)
        center = _step(point, point, jnp.zeros(()), jnp.ones(()), dataset)[1]
        # The total of gamma is independent of everything else, and kept, so that many steps do not let it drift.
        (before, *_), (after, *_) = _natural(point, dataset), _natural(center, dataset)
        log_gamma = after - jax.nn.logsumexp(after) + jax.nn.logsumexp(before)
        gamma = normal_from_log_gamma(_constants(dataset)["concentration"], jnp.ones(()), log_gamma)
        return _join(center._replace(gamma=gamma))

    return em_step


def _splitter(num_components: int, num_columns: int) -> Callable[[Array], _Blocks]:
    matrix = (num_components, num_columns)
    edges = [num_components, num_components * (1 + num_columns)]

    def split(theta: Array) -> _Blocks:
        gamma, sigma2, mu = jnp.split(theta, edges)
        return _Blocks(gamma, sigma2.reshape(matrix), mu.reshape(matrix))

    return split


def _join(blocks: _Blocks) -> Array:
    return jnp.concatenate([blocks.gamma, blocks.sigma2.ravel(), blocks.mu.ravel()])


def make_responsibilities(num_components: int, num_columns: int) -> Callable[[Array, Dataset], Array]:
    """``(theta (dim,), dataset) -> (n, M)``, the probability of every component for every row; zero in masked rows."""
    split = _splitter(num_components, num_columns)
    return lambda theta, dataset: _responsibilities(split(theta), dataset).T


def make_log_likelihood(num_components: int, num_columns: int) -> Callable[[Array, Dataset], Array]:
    """``(theta (dim,), dataset) -> ()``, up to a constant: the task's own, without running its program."""
    split = _splitter(num_components, num_columns)

    def log_likelihood(theta: Array, dataset: Dataset) -> Array:
        point = split(theta)
        total = jax.nn.logsumexp(_natural(point, dataset)[0])
        log_density = jax.nn.logsumexp(_log_densities(point, dataset), axis=0) - total
        return jnp.sum(jnp.where(dataset.row_mask, log_density, 0.0))

    return log_likelihood


def _responsibilities(point: _Blocks, dataset: Dataset) -> Array:
    """Of every component for every row, ``(M, n)``; zero in masked rows."""
    return jnp.where(dataset.row_mask, jax.nn.softmax(_log_densities(point, dataset), axis=0), 0.0)


def _log_densities(point: _Blocks, dataset: Dataset) -> Array:
    """Of every row under every component, times gamma, up to a constant, ``(M, n)``."""
    log_gamma, log_precision, mu = _natural(point, dataset)
    rows = jnp.asarray(dataset["x"], jnp.float32)
    log_scale = log_gamma + 0.5 * jnp.sum(log_precision, axis=-1)
    return log_component_densities(rows, mean_of_rows(dataset), log_scale, jnp.exp(log_precision), mu)


def _constants(dataset: Dataset) -> dict[str, Array]:
    return {name: jnp.asarray(value) for name, value in dataset.constants.items()}


def _natural(point: _Blocks, dataset: Dataset) -> tuple[Array, Array, Array]:
    """Logs of gamma and of the inverse of sigma2, and mu."""
    constants = _constants(dataset)
    log_gamma, _ = log_gamma_from_normal(constants["concentration"], jnp.ones(()), point.gamma)
    log_precision, _ = _log_precision(point.sigma2, dataset)
    return log_gamma, log_precision, point.mu * jnp.sqrt(constants["mean_spread"]) * jnp.exp(-0.5 * log_precision)


def _log_precision(u: Array, dataset: Dataset) -> tuple[Array, Array]:
    """Log of ``1 / sigma2`` and the log of its slope in ``-u``."""
    constants = _constants(dataset)
    return log_gamma_from_normal(constants["sigma2_concentration"], constants["sigma2_rate"], -u)


def _step(
    point: _Blocks, view: _Blocks, alpha: Array, sigma: Array, dataset: Dataset
) -> tuple[_Blocks, _Blocks, _Information]:
    """Responsibilities at a point, then given them means, with the view and without, and the information of both."""
    constants, rows = _constants(dataset), jnp.asarray(dataset["x"], jnp.float32)
    shares = _responsibilities(point, dataset)
    counts = jnp.sum(shares, axis=1)
    sums, squares = shares @ rows, shares @ rows**2

    # Weights are Dirichlet given the labels; the total of gamma is independent of them and stays as it is.
    concentration = constants["concentration"]
    log_gamma, _, _ = _natural(point, dataset)
    log_shares = jnp.log(_gamma_median(concentration + counts)) - jnp.log(jnp.sum(concentration + counts))
    gamma_center = normal_from_log_gamma(concentration, jnp.ones(()), jax.nn.logsumexp(log_gamma) + log_shares)
    _, log_slope = log_gamma_from_normal(concentration, jnp.ones(()), gamma_center)
    gamma_precision = (concentration + counts) * jnp.exp(2.0 * log_slope)

    # Normal-inverse-gamma, per component and column.
    spread = constants["mean_spread"]
    strength = counts[:, None] + 1.0 / spread
    mean = sums / strength
    shape = constants["sigma2_concentration"] + 0.5 * counts[:, None]
    rate = constants["sigma2_rate"] + 0.5 * jnp.maximum(squares - strength * mean**2, 0.0)
    log_precision = jnp.log(shape - 1.0 / 3.0) - jnp.log(rate)
    sigma2_center = -normal_from_log_gamma(constants["sigma2_concentration"], constants["sigma2_rate"], log_precision)
    _, log_slope = _log_precision(sigma2_center, dataset)
    slope = jnp.exp(log_slope)
    mu_center = mean * jnp.exp(0.5 * log_precision) / jnp.sqrt(spread)
    # A mean in units of its component's scale moves with that scale: a pair of correlated coordinates.
    tilt = -0.5 * mu_center * slope
    mu_precision = spread * strength
    sigma2_precision = shape * slope**2
    first, second, cross = sigma2_precision + tilt**2 * mu_precision, mu_precision, -tilt * mu_precision
    noise = sigma**2
    right = _Blocks(
        noise * gamma_precision * gamma_center + alpha * view.gamma,
        noise * (first * sigma2_center + cross * mu_center) + alpha * view.sigma2,
        noise * (cross * sigma2_center + second * mu_center) + alpha * view.mu,
    )
    information = _Information(
        noise * gamma_precision + alpha**2, noise * first + alpha**2, noise * second + alpha**2, noise * cross
    )
    return information.solve(right), _Blocks(gamma_center, sigma2_center, mu_center), information


def _gamma_median(concentration: Array) -> Array:
    """About the median of a gamma law of rate one (Wilson and Hilferty, 1931)."""
    return concentration * jnp.maximum(1.0 - 1.0 / (9.0 * concentration), 0.1) ** 3
