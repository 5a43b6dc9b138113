"""A task: one NumPyro program, from which everything else is derived.

Prior sampling, simulation, unconstraining maps, the log joint, the MCMC and variational
baselines and posterior prediction all read the same program, so that the training prior and
the reference cannot drift apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpyro import handlers

from icl_bayes.precision import full_precision
from icl_bayes.tasks.coordinates import Coordinate
from icl_bayes.tasks.features import Features
from icl_bayes.tasks.latent_program import LatentProgram
from icl_bayes.tasks.padding_check import require_padding_invariance
from icl_bayes.tasks.row_features import make_row_features, make_row_validator, row_scales, simulate_rows_of
from icl_bayes.tasks.token_view import TokenView
from icl_bayes.tasks.user_model import Inputs, read_model
from icl_bayes.types import Array, Dataset, Sites


@dataclass(frozen=True, eq=False, kw_only=True)
class Task(LatentProgram):
    """A statistical model with everything needed to train and judge a network for it.

    Attributes beside those of :class:`LatentProgram`:
        inputs: ``(rng_key, row_mask) -> {row name: array}``, the covariate prior.
        constants: default prior hyper-parameters.
        hyperprior: log-uniform training ranges ``{constant: (low, high)}``; constants not named
            keep their default.
        features: ``dataset -> Features``, what networks read.
        validate: family-specific checks and conversions of a user's data set.
        starts: ``dataset -> {site: (k, *site_shape)}``, where mode searches begin beside zero, which is
            near the prior median; for posteriors that may have several modes. Sites left out start there.
        accept: ``dataset -> bool ()``, whether a simulated data set is kept. A rule on the data
            alone leaves every posterior unchanged; tables record its rate.
        paper_num_rows: number of rows in the published scenario.
        options: what ``make_task`` was called with; stored in checkpoints.
        denoise: ``(x (dim,), alpha (), sigma (), dataset) -> (mean, center)``, an estimate ``(dim,)`` of theta from
            the data and the noisy view ``x = alpha theta + sigma noise``, and one from the data alone, near it; for
            velocities that correct it.
        summaries: ``dataset -> (k, e)``, further tokens for encoders to read beside the rows.
        spread: ``(x, alpha, sigma, dataset, vector (dim,)) -> (dim,)``, about the covariance of theta given data and
            view, times a vector; for losses that take noise out of their targets with it.
        responsibilities: ``(theta (dim,), dataset) -> (n, M)``, of a mixture: the probability of every component for
            every row, zero where masked.
        em_step: ``(theta, dataset) -> theta``, one step towards a mode, of the EM algorithm.
        mode_starts: ``dataset -> (k, dim)``, values of theta near its modes, for bases that look for all of them.
        row_range: fewest and most rows of a data set, where that is known; where they are equal the number is fixed,
            theta may have a part for every row, and no rows are padded.
        signed: constants that need not be positive.
        draw_constants: ``rng_key -> {constant: array}``, their law in training where it is more than ranges.
        tokens: ``(dataset, shift (dim,), scale (dim, dim)) -> TokenView``, what networks of column tokens read, given a
            Gaussian close to the posterior.
        has_far_modes: whether posteriors may have modes that chains do not cross, beside those by permutation; the
            reference is then tempered SMC.
        has_dear_gradients: whether a gradient of the log joint costs many evaluations of a network, so that draws are
            rather chosen from more of them than moved.
    """

    inputs: Callable[[Array, Array], dict[str, Array]]
    constants: Mapping[str, Any]
    features: Callable[[Dataset], Features]
    validate: Callable[[Dataset], Dataset]
    paper_num_rows: int
    starts: Callable[[Dataset], Sites] | None = None
    accept: Callable[[Dataset], Array] | None = None
    hyperprior: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    denoise: Callable[[Array, Array, Array, Dataset], tuple[Array, Array]] | None = None
    summaries: Callable[[Dataset], Array] | None = None
    spread: Callable[[Array, Array, Array, Dataset, Array], Array] | None = None
    responsibilities: Callable[[Array, Dataset], Array] | None = None
    em_step: Callable[[Array, Dataset], Array] | None = None
    mode_starts: Callable[[Dataset], Array] | None = None
    has_far_modes: bool = False
    has_dear_gradients: bool = False
    row_range: tuple[int, int] | None = None
    signed: tuple[str, ...] = ()
    draw_constants: Callable[[Array], dict[str, Array]] | None = None
    tokens: Callable[[Dataset, Array, Array], TokenView] | None = None

    def __post_init__(self) -> None:
        latent = set(self.sites)
        declared = (*self.target, *self.nuisance)
        if latent != set(declared) or len(declared) != len(set(declared)):
            raise ValueError(
                f"Task {self.name!r}: the program's latent sites {sorted(latent)} must be exactly the declared "
                f"target {self.target} and nuisance {self.nuisance} sites."
            )
        if not set(self.compared) <= set(self.target):
            raise ValueError(f"Task {self.name!r}: compared sites {self.compared} must be target sites.")
        if not self.has_fixed_rows:
            require_padding_invariance(self)

    @classmethod
    def from_numpyro(
        cls,
        model: Callable[..., Any],
        inputs: Inputs | None = None,
        *,
        num_rows: int | tuple[int, int],
        rows: str | None = None,
        target: Sequence[str] | None = None,
        compared: Sequence[str] | None = None,
        constants: Mapping[str, float] | None = None,
        hyperprior: Mapping[str, tuple[float, float]] | None = None,
        overrides: Mapping[str, str] | None = None,
        features: Callable[[Dataset], Features] | None = None,
        accept: Callable[[Dataset], Array] | None = None,
        derived: Callable[[Sites], dict[str, Array]] | None = None,
        has_far_modes: bool = False,
        name: str = "",
    ) -> Task:
        """A task from any NumPyro model, as it is written.

        The model takes what it conditions on by name, and returns data where its responses are missing: an argument
        with the default ``None`` is a response, observed by the one site it is passed to (``obs=y``). Rows in a plate
        are masked where data sets are padded. Discrete latent sites are summed out where they have finitely many
        values: row by row in the plate over rows, jointly elsewhere.

        Args:
            model: e.g. ``def model(x, y=None)``. It may also take ``num_rows`` (the length of the row axis) and
                ``row_mask`` ``(n,)``, to be applied by itself (``numpyro.handlers.mask``) where rows are no plate.
            inputs: ``(rng_key, num_rows) -> {argument: (num_rows,) or (num_rows, p)}``, the law of the covariates in
                training; traceable. None for models without. Whole numbers from 0 to K - 1 are read as labels.
            num_rows: of every data set, or the fewest and the most.
            rows: name of the plate over rows, found by its size if there is one such plate.
            target: sites that networks answer; all continuous ones by default. What is left out is a nuisance, and
                then there are no importance weights.
            compared: sites that metrics compare; those of the target by default.
            constants: positive prior constants that the model takes as arguments, with defaults; networks read them.
            hyperprior: ranges of constants in training, ``{name: (low, high)}``.
            overrides: coordinates per site, see :func:`icl_bayes.tasks.coordinates.resolve`.
            features: what networks read instead of all columns on one scale.
            accept, derived, has_far_modes: see the attributes.
            name: by default ``custom/`` and the model's.

        Raises:
            ValueError: for what can't be done, in words: improper priors, factors, parameters, subsampling, discrete
                sites without a finite list of values, dimensions that change with the rows, rows that padding would
                falsify.
        """
        low, high = (num_rows, num_rows) if isinstance(num_rows, int) else num_rows
        if not 1 <= low <= high:
            raise ValueError(f"num_rows must be a number of rows, or the fewest and the most; received {num_rows}.")
        usual = round(float(np.sqrt(low * high)))
        fixed = dict(constants or {})
        read = read_model(model, inputs, rows=rows, num_rows=usual, has_fixed_rows=low == high, constants=fixed)
        name = name or f"custom/{getattr(model, '__name__', type(model).__name__)}"
        answered = tuple(read.latent if target is None else target)
        unknown = sorted(set(answered) - set(read.latent))
        if unknown:
            raise ValueError(f"target has {unknown}; the continuous latent sites of the model are {list(read.latent)}.")
        simulated = simulate_rows_of(read.program, read.inputs, read.responses, fixed, high)
        scales = row_scales(simulated, read.responses)
        return cls(
            name=name,
            model=read.program,
            inputs=read.inputs,
            responses=read.responses,
            target=answered,
            nuisance=tuple(site for site in read.latent if site not in answered),
            compared=answered if compared is None else tuple(compared),
            constants=fixed,
            hyperprior=dict(hyperprior or {}),
            features=features or make_row_features(scales, fixed, usual),
            validate=make_row_validator(name, read.example, scales, read.supports, (low, high)),
            example=read.example,
            paper_num_rows=usual,
            overrides=dict(overrides or {}),
            accept=accept,
            derived=derived,
            has_far_modes=has_far_modes,
            row_range=(low, high),
        )

    @property
    def has_fixed_rows(self) -> bool:
        """Whether all data sets have the same number of rows."""
        return self.row_range is not None and self.row_range[0] == self.row_range[1]

    @property
    def num_columns(self) -> int:
        return int(self.options.get("num_columns", 0))

    @property
    def has_response(self) -> bool:
        """Whether some rows are predicted from others, as in a regression."""
        return set(self.responses) != set(self.example.rows)

    # ---------------------------------------------------------------- simulation

    def sample_constants(self, rng_key: Array) -> dict[str, Array]:
        """Prior hyper-parameters for one simulated data set."""
        if self.draw_constants is not None:
            return self.draw_constants(rng_key)
        constants = {name: jnp.asarray(value, jnp.float32) for name, value in self.constants.items()}
        keys = jax.random.split(rng_key, max(len(self.hyperprior), 1))
        for key, (name, (low, high)) in zip(keys, sorted(self.hyperprior.items()), strict=False):
            constants[name] = jnp.exp(jax.random.uniform(key, minval=jnp.log(low), maxval=jnp.log(high)))
        return constants

    @full_precision
    def sample_prior(self, rng_key: Array, dataset: Dataset) -> Array:
        """One draw of ``theta`` ``(dim,)`` from the prior, given the constants and covariates of a data set."""
        inputs = {name: value for name, value in dataset.rows.items() if name not in self.responses}
        unobserved = dataset.replace(rows=inputs)
        trace = handlers.trace(handlers.seed(self.model, rng_key)).get_trace(unobserved)
        return self.unconstrain({name: trace[name]["value"] for name in self.sites}, dataset)

    @full_precision
    def simulate(
        self, rng_key: Array, num_rows: int | Array, padded_rows: int | None = None, *, scale: Array | None = None
    ) -> tuple[Array, Dataset]:
        """One exact draw of ``(theta, dataset)`` from the joint law.

        Args:
            num_rows: number of rows; may be traced when ``padded_rows`` is given.
            padded_rows: static length of the row axis (default ``num_rows``).
            scale: ``()``; rows are simulated from ``scale * theta``, which is returned, ``theta`` being a draw of the
                prior: another joint law, with the same law of the rows given theta.

        Returns:
            ``theta`` ``(dim,)`` and a data set with ``padded_rows`` rows.
        """
        constants_key, inputs_key, model_key = jax.random.split(rng_key, 3)
        if padded_rows is None:
            padded_rows = int(num_rows)
        row_mask = jnp.arange(padded_rows) < num_rows
        constants = self.sample_constants(constants_key)
        inputs = self.inputs(inputs_key, row_mask)
        unobserved = Dataset(row_mask=row_mask, constants=constants, **inputs)
        trace = handlers.trace(handlers.seed(self.model, model_key)).get_trace(unobserved)
        dataset = unobserved.replace(rows={**inputs, **{name: trace[name]["value"] for name in self.responses}})
        theta = self.unconstrain({name: trace[name]["value"] for name in self.sites}, dataset)
        if scale is None:
            return theta, dataset
        program = handlers.substitute(self.model, data=self.constrain(scale * theta, dataset))
        trace = handlers.trace(handlers.seed(program, jax.random.fold_in(model_key, 1))).get_trace(unobserved)
        responses = {name: trace[name]["value"] for name in self.responses}
        return scale * theta, unobserved.replace(rows={**inputs, **responses})

    def is_accepted(self, dataset: Dataset) -> Array:
        """Whether a simulated data set passes the task's rule, ``()`` boolean."""
        return jnp.asarray(True) if self.accept is None else self.accept(dataset)

    @full_precision
    def starting_points(self, dataset: Dataset) -> Array:
        """Where mode searches begin, ``(k, dim)``, a function of the data alone.

        The task's best guess comes first, zero next, its other points last.
        """
        zero = jnp.zeros(self.dim)
        if self.starts is None:
            return zero[None]
        median = self.constrain(zero, dataset)
        others = jax.vmap(lambda sites: self.unconstrain({**median, **sites}, dataset))(self.starts(dataset))
        return jnp.concatenate([others[:1], zero[None], others[1:]])

    # ---------------------------------------------------------------- data from outside

    def prepare(self, dataset: Dataset) -> Dataset:
        """A user's data set, checked and completed: float32 rows, all constants present.

        Raises:
            ValueError: for missing or non-finite rows, unknown constants, and whatever the
                family forbids; the message says what was received and what is expected.
        """
        unknown = sorted(set(dataset.constants) - set(self.constants))
        if unknown:
            raise ValueError(f"Task {self.name!r} has no constant(s) {unknown}; it knows {sorted(self.constants)}.")
        merged = {**self.constants, **dataset.constants}
        constants = {name: np.asarray(value, np.float32) for name, value in merged.items()}
        for name, value in constants.items():
            if not np.isfinite(value).all() or (name not in self.signed and (value <= 0).any()):
                raise ValueError(f"Prior constant {name!r} must be positive and finite; received {value}.")
        return self.validate(dataset.replace(constants=constants))


__all__ = ["Coordinate", "Features", "Task"]
