"""Sources of the flow: where the ODE starts at t = 0.

A base is an affine map of standard normal noise, ``theta = shift + scale @ u``, or one that is warped. Velocities are
learned in the whitened coordinates ``u``, in which the base is N(0, I):

* ``standard``: the paper's, no map at all;
* ``gaussian``: mean and covariance predicted by a head of the network, without a likelihood;
* ``laplace``: mode and curvature of the log joint (:func:`laplace_approximation`);
* ``variational``: the Gaussian closest to the posterior (:mod:`icl_bayes.flow.variational`);
* ``pilots``: the Gaussian with the posterior's moments, over all of its modes (:mod:`icl_bayes.flow.pilots`);
* ``warped``: the same in coordinates with a sharp peak and long tails, as far as the posterior has them
  (:mod:`icl_bayes.flow.warp`);
* ``modes``: several such maps, one for each of the posterior's modes (:mod:`icl_bayes.flow.gaussian_modes`).
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from icl_bayes.flow.mode_search import LogDensity, Metric, NewtonInfo, find_mode
from icl_bayes.flow.warp import Warp

Array = jax.Array

BASES = ("standard", "gaussian", "laplace", "variational", "pilots", "warped", "modes")
LIKELIHOOD_BASES = ("laplace", "variational", "pilots", "warped", "modes")
"""Bases that are computed from the log joint of a data set."""
GAUSSIAN_BASES = ("laplace", "variational", "pilots")
"""Those among them that are one Gaussian in the coordinates of theta."""


class Rivals(NamedTuple):
    """Gaussians that share the mass around one of them.

    Attributes:
        shift: ``(num, dim)``.
        inverse: ``(num, dim, dim)``, whitening matrices.
        offset: ``(num,)``, log weight minus log determinant of the scale; minus infinity for those that do not count.
        own: ``()``, which of them is the one.
    """

    shift: Array
    inverse: Array
    offset: Array
    own: Array

    def log_densities(self, theta: Array) -> Array:
        """Weighted, of all at ``theta (dim,)``, up to a constant, ``(num,)``."""
        # One matrix for all of them, which under vmap makes one product of all thetas; relative to one of the centers,
        # so that narrow Gaussians far from zero lose no digits.
        num, dim = self.shift.shape
        center = self.shift[0]
        whitened = (self.inverse.reshape(num * dim, dim) @ (theta - center)).reshape(num, dim)
        whitened = whitened - jnp.einsum("rij,rj->ri", self.inverse, self.shift - center)
        return self.offset - 0.5 * jnp.sum(whitened**2, axis=1)


class Affine(NamedTuple):
    """``theta = shift + scale @ u``, then warped if it has a warp.

    Attributes:
        shift: ``(dim,)``.
        scale: ``(dim, dim)``, invertible.
        inverse: ``(dim, dim)``, its inverse: applied to many draws, a product with a
            precomputed inverse costs less than a triangular solve per draw.
        log_det: ``()``, ``log |det scale|``.
        rivals: of one of several Gaussians that make a base together.
        warp: what ``shift + scale @ u`` goes through.
    """

    shift: Array
    scale: Array
    inverse: Array
    log_det: Array
    rivals: Rivals | None = None
    warp: Warp | None = None

    def forward(self, u: Array) -> Array:
        """``theta`` from ``u``; both ``(..., dim)``."""
        t = self.shift + u @ self.scale.T
        return t if self.warp is None else self.warp.forward(t)

    def backward(self, theta: Array) -> Array:
        """``u`` from ``theta``; both ``(..., dim)``."""
        t = theta if self.warp is None else self.warp.backward(theta)
        return (t - self.shift) @ self.inverse.T

    def log_volume(self, u: Array) -> Array:
        """``log |det d theta / d u|`` at ``u (..., dim)``, ``(...)`` or the same everywhere, ``()``."""
        return self.log_det if self.warp is None else self.log_det + self.warp.log_slope(self.shift + u @ self.scale.T)

    def pulled_back(self, log_density_fn: LogDensity) -> LogDensity:
        """The log density of ``u`` if that of theta is ``log_density_fn``, both up to a constant."""
        if self.warp is None:
            return lambda u: log_density_fn(self.forward(u))
        return lambda u: log_density_fn(self.forward(u)) + self.log_volume(u)

    def log_prob(self, theta: Array) -> Array:
        """Log density at ``theta (..., dim)`` of the base alone, ``(...)``."""
        u = self.backward(theta)
        return -0.5 * (jnp.sum(u**2, axis=-1) + u.shape[-1] * jnp.log(2.0 * jnp.pi)) - self.log_volume(u)

    def score(self, u: Array, score: Array) -> Array:
        """Gradient in ``u`` of a log density of ``u`` whose gradient as one of theta is known; all ``(dim,)``."""
        if self.warp is None:
            return score @ self.scale
        return jax.grad(lambda u: self.forward(u) @ jax.lax.stop_gradient(score) + self.log_volume(u))(u)

    def log_share(self, theta: Array) -> Array:
        """Log of this Gaussian's share of the base at ``theta (dim,)``, ``()``: zero where it is alone."""
        if self.rivals is None:
            return jnp.zeros(())
        logs = self.rivals.log_densities(theta)
        return logs[self.rivals.own] - jax.scipy.special.logsumexp(logs)


def identity_affine(dim: int) -> Affine:
    eye = jnp.eye(dim)
    return Affine(jnp.zeros(dim), eye, eye, jnp.zeros(()))


def affine_from_curvature(mode: Array, curvature: Array, *, floor: float = 0.05) -> Affine:
    """Whitening by the symmetric root of the inverse curvature.

    The symmetric root commutes with permutations of the coordinates, so exchangeable
    columns stay exchangeable. Eigenvalues below ``floor`` (flat or upward-curved directions,
    where the prior alone would give about 1) are raised to it.
    """
    symmetric = 0.5 * (curvature + curvature.T)
    eigenvalues, vectors = jnp.linalg.eigh(symmetric)
    root = jnp.sqrt(jnp.maximum(eigenvalues, floor))
    scale = (vectors / root) @ vectors.T
    inverse = (vectors * root) @ vectors.T
    return Affine(mode, scale, inverse, -jnp.sum(jnp.log(root)))


def laplace_approximation(
    log_density_fn: LogDensity,
    dim: int,
    *,
    metric_fn: Metric | None = None,
    num_steps: int = 16,
    curvature: str = "hessian",
    start: Array | None = None,
) -> tuple[Affine, NewtonInfo]:
    """Gaussian approximation at the mode of an unnormalized log density.

    Args:
        log_density_fn: ``(dim,) -> ()``.
        dim: number of coordinates.
        metric_fn: metric of the mode search, see :func:`find_mode`; default the Hessian with
            its eigenvalues made positive.
        curvature: ``hessian`` of the log density at the mode (the Laplace approximation proper)
            or ``metric`` (expected information, never indefinite).
        start: ``(dim,)``, default zero (the prior median in task coordinates).

    Returns:
        :class:`Affine` with ``shift`` the mode and ``scale`` the symmetric root of the
        inverse curvature, and :class:`NewtonInfo`. If the search ends in non-finite numbers,
        the affine map is the identity and ``info.is_finite`` is false.
    """

    def negative_hessian(theta: Array) -> Array:
        return -jax.jacfwd(jax.grad(log_density_fn))(theta)

    def positive_hessian(theta: Array) -> Array:
        hessian = negative_hessian(theta)
        eigenvalues, vectors = jnp.linalg.eigh(0.5 * (hessian + hessian.T))
        return (vectors * jnp.maximum(jnp.abs(eigenvalues), 0.05)) @ vectors.T

    metric_fn = positive_hessian if metric_fn is None else metric_fn
    start = jnp.zeros(dim) if start is None else start
    mode, _, metric, info = find_mode(log_density_fn, metric_fn, start, num_steps=num_steps)
    matrix = negative_hessian(mode) if curvature == "hessian" else metric
    is_finite = info.is_finite & jnp.all(jnp.isfinite(matrix))
    affine = affine_from_curvature(jnp.where(is_finite, mode, 0.0), jnp.where(is_finite, matrix, jnp.eye(dim)))
    return affine, NewtonInfo(info.decrement, is_finite)
