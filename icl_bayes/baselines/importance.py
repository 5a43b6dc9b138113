"""Near-exact draws of low-dimensional posteriors with any number of modes: adaptive importance resampling.

Proposals are drawn from a mixture of Student laws around a sample of the draws before, which were weighted in the
same way, the first time from a wide law around the prior. The laws come in several widths, whose shares adapt
(population Monte Carlo with kernel mixtures; Douc et al., 2007). A tenth of all proposals keeps coming from the wide
law, so no part of the prior goes without proposals. Every round's weights are exact, whatever came before.

What is left of the error can be stated: with an effective number of proposals E, the mean of any function over k
resampled draws has a variance ``1 + k / E`` times that of k exact draws, and a bias of order 1 / E.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln, logsumexp

from icl_bayes.baselines.common import check_num_draws, constrain_draws, verdict
from icl_bayes.baselines.programs import ProgramCache
from icl_bayes.tasks import Task
from icl_bayes.types import AnyArray, Array, Dataset, SampleResult

MAX_DIM = 8
"""Dimensions up to which mixtures of a few hundred components cover a posterior."""
DEGREES_OF_FREEDOM = 5.0
WIDE = 1.3
"""Scale of the wide law, in prior standard deviations."""
DEFENSIVE = 0.1
"""Share of proposals from the wide law."""
NUM_COMPONENTS = 256
WIDTHS = np.asarray([1.0, 0.3, 0.09, 0.027], np.float32)
"""Of the laws around each center, relative to a kernel density estimate's."""
MIN_SHARE = 0.01
"""Smallest share of a width among the proposals around centers."""
_CHUNK = 4096
_MAX_DISAGREEMENT = 4.5  # of a dozen z-scores


_FAMILIES = ("fa/",)


def supports_importance(task: Task) -> bool:
    """Whether this is the reference of a task: its posteriors have few dimensions and, by nature, several modes."""
    return task.name.startswith(_FAMILIES)


class Proposals(NamedTuple):
    """Weighted proposals.

    Attributes:
        thetas: ``(num, dim)``.
        log_weights: ``(num,)``, log joint minus log proposal density.
        widths: ``(num, k)``, for each proposal the probability that it came from a law of each width, given
            that it did not come from the wide one.
    """

    thetas: np.ndarray
    log_weights: np.ndarray
    widths: np.ndarray


class Mixture(NamedTuple):
    """What is proposed from beside the wide law.

    Attributes:
        centers: ``(num_components, dim)``.
        factor: ``(dim, dim)``, lower triangular, of the scale matrix that all components share.
        widths: ``(k,)``, shares of the :data:`WIDTHS` of that scale.
        share: ``()``, of the wide law.
    """

    centers: AnyArray
    factor: AnyArray
    widths: AnyArray
    share: AnyArray


def _log_student(squared: Array, log_det: Array, dim: int) -> Array:
    """Log density of a Student law in ``dim`` dimensions at squared Mahalanobis distances."""
    half = 0.5 * (DEGREES_OF_FREEDOM + dim)
    constant = gammaln(half) - gammaln(0.5 * DEGREES_OF_FREEDOM) - 0.5 * dim * jnp.log(DEGREES_OF_FREEDOM * jnp.pi)
    return constant - log_det - half * jnp.log1p(squared / DEGREES_OF_FREEDOM)


def propose(task: Task, num: int, rng_key: Array, dataset: Dataset, mixture: Mixture) -> tuple[Array, Array, Array]:
    """``num`` :class:`Proposals`, as a plain tuple; traceable, a chunk at a time."""
    dim = task.dim
    log_det = jnp.sum(jnp.log(jnp.diagonal(mixture.factor)))
    whitened_centers = jax.scipy.linalg.solve_triangular(mixture.factor, mixture.centers.T, lower=True).T

    def chunk(key: Array) -> tuple[Array, Array, Array]:
        wide_key, which_key, width_key, noise_key, scale_key = jax.random.split(key, 5)
        is_wide = jax.random.uniform(wide_key, (_CHUNK,)) < mixture.share
        which = jax.random.randint(which_key, (_CHUNK,), 0, len(mixture.centers))
        width = jnp.asarray(WIDTHS)[jax.random.categorical(width_key, jnp.log(mixture.widths), shape=(_CHUNK,))]
        scale = jnp.sqrt(0.5 * DEGREES_OF_FREEDOM / jax.random.gamma(scale_key, 0.5 * DEGREES_OF_FREEDOM, (_CHUNK,)))
        noise = scale[:, None] * jax.random.normal(noise_key, (_CHUNK, dim))
        near = mixture.centers[which] + width[:, None] * (noise @ mixture.factor.T)
        theta = jnp.where(is_wide[:, None], WIDE * noise, near)
        whitened = jax.scipy.linalg.solve_triangular(mixture.factor, theta.T, lower=True).T
        squared = jnp.sum((whitened[:, None, :] - whitened_centers) ** 2, axis=2)
        by_width = [
            logsumexp(_log_student(squared / one**2, log_det + dim * np.log(one), dim), axis=1) for one in WIDTHS
        ]
        by_width = jnp.stack(by_width, axis=1) + jnp.log(mixture.widths) - jnp.log(len(mixture.centers))
        wide = _log_student(jnp.sum((theta / WIDE) ** 2, axis=1), dim * jnp.log(WIDE), dim)
        log_near = jnp.log1p(-mixture.share) + logsumexp(by_width, axis=1)
        log_proposal = jnp.logaddexp(jnp.log(mixture.share) + wide, log_near)
        log_joint = jax.vmap(lambda one: task.log_joint(one, dataset))(theta)
        log_weights = jnp.where(jnp.isfinite(log_joint), log_joint - log_proposal, -jnp.inf)
        return theta, log_weights, jax.nn.softmax(by_width, axis=1)

    chunks = jax.lax.map(chunk, jax.random.split(rng_key, -(-num // _CHUNK)))
    thetas, log_weights, widths = (part.reshape(-1, *part.shape[2:])[:num] for part in chunks)
    return thetas, log_weights, widths


def normalized(log_weights: np.ndarray) -> np.ndarray:
    """Weights that sum to one; float64."""
    weights = np.exp(np.asarray(log_weights, np.float64) - np.max(log_weights))
    return weights / weights.sum()


def systematic(weights: np.ndarray, num: int, generator: np.random.Generator) -> np.ndarray:
    """Indices ``(num,)`` by systematic resampling: an index repeats only if its weight exceeds ``1 / num``."""
    edges = np.cumsum(weights)
    return np.searchsorted(edges / edges[-1], (generator.random() + np.arange(num)) / num)


def fit_mixture(proposals: Proposals, generator: np.random.Generator) -> Mixture:
    """Components around a weighted sample, up to as wide as a kernel density estimate of it (Silverman, 1986)."""
    weights = normalized(proposals.log_weights)
    dim = proposals.thetas.shape[1]
    mean = weights @ proposals.thetas
    centred = proposals.thetas - mean
    covariance = (weights[:, None] * centred).T @ centred + 1e-8 * np.eye(dim)
    bandwidth = (4.0 / (NUM_COMPONENTS * (dim + 2.0))) ** (1.0 / (dim + 4.0))
    centers = proposals.thetas[systematic(weights, NUM_COMPONENTS, generator)]
    factor = bandwidth * np.linalg.cholesky(covariance)
    widths = np.maximum(weights @ proposals.widths, MIN_SHARE)
    leaves = centers, factor, widths / widths.sum(), DEFENSIVE
    return Mixture(*(np.asarray(leaf, np.float32) for leaf in leaves))


def disagreement(thetas: np.ndarray, log_weights: np.ndarray) -> float:
    """Largest z-score between two halves of the proposals, of weighted means and variances over coordinates."""
    half = len(thetas) // 2
    center = normalized(log_weights) @ thetas
    sides = []
    for part in (slice(0, half), slice(half, None)):
        weights, values = normalized(log_weights[part]), thetas[part] - center
        values = np.concatenate([values, values**2], axis=1)
        mean = weights @ values
        sides.append((mean, weights**2 @ (values - mean) ** 2))  # the delta method
    return float(np.max(np.abs(sides[0][0] - sides[1][0]) / np.sqrt(sides[0][1] + sides[1][1])))


def _with_even_widths(proposals: Proposals) -> Proposals:
    """The first round has no centers, and nothing to say about widths."""
    return proposals._replace(widths=np.full_like(proposals.widths, 1.0 / len(WIDTHS)))


@dataclass(frozen=True)
class ImportanceSampler:
    """Near-exact draws for tasks of few dimensions without nuisance sites.

    Attributes:
        task: at most :data:`MAX_DIM` dimensional.
        num_proposals: per round.
        num_adaptations: rounds that serve to find the mixture alone.
        max_rounds: rounds that follow at most, all of which count.
        excess: effective proposals per draw wanted, ``E / k`` above; 50 leave an excess variance of 2 %.
    """

    task: Task
    num_proposals: int = 200_000
    num_adaptations: int = 2
    max_rounds: int = 4
    excess: float = 50.0
    name: str = "importance"
    programs: ProgramCache = field(default_factory=ProgramCache, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.task.dim > MAX_DIM or self.task.nuisance:
            raise ValueError(
                f"Importance sampling needs a task of at most {MAX_DIM} dimensions and no nuisance sites; "
                f"{self.task.name!r} has {self.task.dim} and {self.task.nuisance}."
            )

    def sample(self, rng_key: Array, dataset: Dataset, num_draws: int) -> SampleResult:
        """Draws resampled without replacement from the rounds that count, in random order.

        ``health``: ``ess`` (of the draws), ``effective_proposals``, ``duplicates`` (share of draws that repeat
        another), ``disagreement`` (largest z-score between halves of the proposals). Fails if any is wanting.
        """
        check_num_draws(num_draws)
        dataset = self.task.prepare(dataset)
        generator = np.random.default_rng(np.ravel(jax.random.key_data(rng_key)))
        dim = self.task.dim
        even = np.full(len(WIDTHS), 1.0 / len(WIDTHS))
        nowhere = np.zeros((NUM_COMPONENTS, dim)), np.eye(dim), even, 1.0 - 1e-6
        mixture = Mixture(*(np.asarray(leaf, np.float32) for leaf in nowhere))
        seconds_compile = seconds_run = effective = 0.0
        rounds: list[Proposals] = []
        proposals = None
        for index in range(self.num_adaptations + self.max_rounds):
            key = jax.random.fold_in(rng_key, index)
            call = self.programs.run("propose", self._propose, key, dataset, mixture)
            seconds_compile, seconds_run = seconds_compile + call.seconds_compile, seconds_run + call.seconds_run
            latest = Proposals(*call.outputs)
            mixture = fit_mixture(_with_even_widths(latest) if index == 0 else latest, generator)
            if index < self.num_adaptations:
                continue
            # The weights of all rounds are relative to the same normalizing constant.
            rounds.append(latest)
            proposals = Proposals(*(np.concatenate(parts) for parts in zip(*rounds, strict=True)))
            effective = 1.0 / float(np.sum(normalized(proposals.log_weights) ** 2))
            if effective >= self.excess * num_draws:
                break
        assert proposals is not None
        weights = normalized(proposals.log_weights)
        chosen = generator.permutation(systematic(weights, num_draws, generator))
        duplicates = 1.0 - len(np.unique(chosen)) / num_draws
        health = {
            "ess": num_draws / (1.0 + num_draws / effective),
            "effective_proposals": effective,
            "duplicates": duplicates,
            "disagreement": disagreement(proposals.thetas.astype(np.float64), proposals.log_weights),
        }
        failures = []
        if effective < self.excess * num_draws:
            failures.append(
                f"{effective:.0f} effective proposals for {num_draws} draws (at least {self.excess * num_draws:.0f})"
            )
        if duplicates > 0.0:
            failures.append(f"{duplicates:.2%} of the draws repeat others")
        if not health["disagreement"] <= _MAX_DISAGREEMENT:
            failures.append(f"halves disagree: z-score {health['disagreement']:.1f} (limit {_MAX_DISAGREEMENT})")
        named = self.programs.run("constrain", self._constrain, proposals.thetas[chosen], dataset)
        status, message = verdict(failures, [])
        seconds_run += named.seconds_run
        return SampleResult(
            named.outputs, seconds_compile + named.seconds_compile, seconds_run, status, message, health
        )

    def _propose(self, key: Array, dataset: Dataset, mixture: Mixture) -> tuple[Array, Array, Array]:
        return propose(self.task, self.num_proposals, key, dataset, mixture)

    def _constrain(self, thetas: Array, dataset: Dataset) -> dict[str, Array]:
        return constrain_draws(self.task, thetas, dataset)
