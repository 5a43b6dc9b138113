"""Covariate priors: the contract of ``sample``, and the signature of each prior."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from helpers import assert_mean_within_mcse

from icl_bayes.tasks.covariates import (
    COVARIATE_PRIORS,
    CovariatePrior,
    MixtureCovariates,
    make_covariate_prior,
    marginals,
)
from icl_bayes.tasks.covariates.base import row_normals, standardise

NUM_COLUMNS = 5
PADDED_ROWS = 200
BATCH = 500  # one size, one compilation

# All columns are one of three kinds, independently of each other: frequencies are binomial.
THREE_KINDS = make_covariate_prior(
    "tabular",
    **{f"{kind}_weight": 0.0 for kind in ("gaussian", "bounded", "bimodal", "zero_inflated", "ordinal", "categorical")},
    heavy_tailed_weight=3.0,
    skewed_weight=3.0,
    binary_weight=4.0,
    max_uniformity=0.0,
)
# Cheap to compile: stands in for the default mixture.
TWO_COMPONENTS = make_covariate_prior(
    "mixture",
    gaussian_weight=1.0,
    uniform_weight=3.0,
    tabular_weight=0.0,
    structural_weight=0.0,
    gaussian={"independent_share": 1.0},
)


@functools.cache
def batched(prior: CovariatePrior) -> jax.stages.Wrapped:
    return jax.jit(jax.vmap(lambda rng_key, row_mask: prior.sample(rng_key, NUM_COLUMNS, row_mask)))


def draw(prior: CovariatePrior, seed: int, row_mask: np.ndarray) -> np.ndarray:
    """One table per row of ``row_mask`` ``(batch, n)``, as float64 ``(batch, n, p)``."""
    size = min(BATCH, len(row_mask))
    keys = jax.random.split(jax.random.key(seed), len(row_mask))
    tables = [batched(prior)(keys[at : at + size], row_mask[at : at + size]) for at in range(0, len(row_mask), size)]
    return np.concatenate(tables).astype(np.float64)


@functools.cache
def full_tables(name: str) -> np.ndarray:
    """A thousand tables without padding."""
    return draw(make_covariate_prior(name), 1, np.ones((1000, PADDED_ROWS), bool))


def correlations(tables: np.ndarray) -> np.ndarray:
    """Correlations ``(batch, p (p - 1) / 2)`` between the columns of standardised tables."""
    above = np.triu_indices(tables.shape[2], 1)
    return np.einsum("bni,bnj->bij", tables, tables)[:, above[0], above[1]] / tables.shape[1]


def distinct(tables: np.ndarray) -> np.ndarray:
    """Number of distinct values ``(batch, p)`` of each column."""
    return 1 + np.sum(np.diff(np.sort(tables, axis=1), axis=1) > 0, axis=1)


@pytest.mark.parametrize(
    "prior",
    [*map(make_covariate_prior, ("gaussian", "uniform", "tabular", "structural")), TWO_COMPONENTS],
    ids=lambda prior: prior.name,
)
def test_columns_are_standardised_never_constant_and_zero_on_padding(prior: CovariatePrior) -> None:
    scattered = np.random.default_rng(0).uniform(size=(200, PADDED_ROWS)) < 0.3
    prefixes = [(2000, 10), (150, 2), (100, 50), (50, PADDED_ROWS)]
    row_mask = np.concatenate(
        [np.broadcast_to(np.arange(PADDED_ROWS) < rows, (times, PADDED_ROWS)) for times, rows in prefixes] + [scattered]
    )
    tables = draw(prior, 0, row_mask)
    assert np.all(np.isfinite(tables))
    assert np.all(tables[~row_mask] == 0.0)
    count = row_mask.sum(axis=1)[:, None]
    mean = tables.sum(axis=1) / count
    sd = np.sqrt((np.square(tables - mean[:, None]) * row_mask[:, :, None]).sum(axis=1) / count)
    np.testing.assert_allclose(mean, 0.0, atol=1e-4)
    np.testing.assert_allclose(sd, 1.0, atol=1e-4)


@pytest.mark.parametrize(
    "prior",
    [make_covariate_prior("tabular"), make_covariate_prior("structural"), TWO_COMPONENTS],
    ids=lambda prior: prior.name,
)
def test_padding_does_not_change_the_valid_rows(prior: CovariatePrior) -> None:
    num_rows = 40
    short, long = (
        draw(prior, 3, np.broadcast_to(np.arange(padded) < num_rows, (BATCH, padded))) for padded in (64, PADDED_ROWS)
    )
    assert np.all(long[:, num_rows:] == 0.0)
    np.testing.assert_allclose(short[:, :num_rows], long[:, :num_rows], atol=1e-4)


def test_row_noise_is_a_prefix_of_longer_row_noise() -> None:
    keys = jax.random.split(jax.random.key(0), 3)
    shorter, longer = row_normals(keys, 128), row_normals(keys, 129)  # either side of a change of evaluation
    np.testing.assert_allclose(shorter, longer[:, :128], rtol=1e-5)
    assert np.max(np.abs(np.corrcoef(longer) - np.eye(3))) < 5 / np.sqrt(129)


def test_a_key_determines_the_table_alone_and_in_a_batch() -> None:
    prior = make_covariate_prior("gaussian")
    row_mask = np.broadcast_to(np.arange(PADDED_ROWS) < 30, (BATCH, PADDED_ROWS))
    batch = draw(prior, 4, row_mask)
    np.testing.assert_array_equal(batch, draw(prior, 4, row_mask))
    key = jax.random.split(jax.random.key(4), BATCH)[7]
    alone = jax.jit(prior.sample, static_argnums=1)(key, NUM_COLUMNS, row_mask[7])
    np.testing.assert_allclose(alone, batch[7], atol=1e-4)
    assert len(np.unique(batch[:, 0, 0])) == BATCH


@pytest.mark.parametrize("name", COVARIATE_PRIORS)
def test_nothing_is_broadcast_between_ranks(name: str, strict_rank_promotion: None) -> None:
    prior = make_covariate_prior(name)
    table = jax.eval_shape(lambda rng_key: prior.sample(rng_key, 3, jnp.ones(7, bool)), jax.random.key(0))
    assert (table.shape, table.dtype) == ((7, 3), jnp.float32)


def test_rows_to_sample_may_be_traced() -> None:
    prior = make_covariate_prior("uniform")
    table = jax.jit(lambda num_rows: prior.sample(jax.random.key(0), 2, jnp.arange(16) < num_rows))(9)
    assert np.all(table[:9] != 0.0)
    assert np.all(table[9:] == 0.0)


def test_unusable_columns_become_standardised_noise() -> None:
    rng = np.random.default_rng(0)
    good = rng.normal(size=20)
    bad = [np.zeros(20), np.full(20, 3e7), 1e4 + 1e-6 * good, np.where(good > 1, np.nan, good), 1e30 * good]
    fallback = rng.normal(size=(6, 20)).astype(np.float32)
    row_mask = np.arange(20) < 15
    table = standardise(jnp.asarray(np.stack([good, *bad]), jnp.float32), row_mask, jnp.asarray(fallback))
    valid = np.concatenate([good[None, :15], fallback[1:, :15]])
    expected = (valid - valid.mean(axis=1, keepdims=True)) / valid.std(axis=1, keepdims=True)
    np.testing.assert_allclose(table[:15], expected.T, atol=1e-5)
    assert np.all(np.asarray(table)[15:] == 0.0)


@pytest.mark.parametrize("num_rows", [0, 1])
def test_too_few_rows_to_scale_stay_finite(num_rows: int) -> None:
    row_mask = np.broadcast_to(np.arange(PADDED_ROWS) < num_rows, (BATCH, PADDED_ROWS))
    tables = draw(make_covariate_prior("gaussian"), 0, row_mask)
    assert np.all(np.isfinite(tables))
    assert np.all((tables != 0.0) == row_mask[:, :, None])


def test_tabular_kinds_come_at_their_weights() -> None:
    prior = make_covariate_prior("tabular")
    tables = full_tables("tabular")
    levels = distinct(tables)
    most_frequent = np.max(np.sum(tables[:, :, None, :] == tables[:, None, :40, :], axis=1), axis=1) / PADDED_ROWS
    shares = {
        ("binary",): levels == 2,
        ("ordinal", "categorical"): (levels > 2) & (levels <= prior.max_levels),
        ("zero_inflated",): (levels > prior.max_levels) & (most_frequent > 0.2),
    }
    for kinds, found in shares.items():
        # Columns of one table share its main kind, so tables, not columns, are the independent draws.
        assert_mean_within_mcse(found.mean(axis=1), sum(prior.weights[kind] for kind in kinds), label=str(kinds))
    assert np.mean(np.all(levels == 2, axis=1)) > 10 * prior.weights["binary"] ** NUM_COLUMNS  # uniform tables occur


def test_tabular_marginals_have_the_shape_of_their_kind() -> None:
    num_tables, num_rows = 120, 4000
    tables = draw(THREE_KINDS, 5, np.ones((num_tables, num_rows), bool))
    columns = tables.transpose(0, 2, 1).reshape(-1, num_rows)
    low, middle, high = np.quantile(columns, [0.05, 0.5, 0.95], axis=1)
    # At least 0.24 in size for the skewed, 0 in theory for the heavy-tailed.
    lean = (high + low - 2 * middle) / (high - low).clip(1e-9)
    binary = distinct(tables).reshape(-1) == 2
    skewed = ~binary & (np.abs(lean) > 0.15)
    heavy = ~binary & ~skewed
    num_columns = len(columns)
    for found, weight in ((binary, 0.4), (skewed, 0.3), (heavy, 0.3)):
        assert scipy.stats.binomtest(int(found.sum()), num_columns, weight).pvalue > 1e-4
    assert scipy.stats.binomtest(int((lean[skewed] > 0).sum()), int(skewed.sum()), 0.5).pvalue > 1e-4
    kurtosis = scipy.stats.kurtosis(columns[heavy], axis=1)
    assert np.min(kurtosis) > 0.3  # 1.5 in theory at 8 degrees of freedom, the lightest tail
    assert np.median(kurtosis) > 2.5
    assert np.min(np.abs(scipy.stats.skew(columns[skewed], axis=1))) > 0.6  # 0.89 in theory for gamma shape 5
    rates = np.mean(columns[binary] > 0, axis=1)
    assert scipy.stats.kstest(rates, scipy.stats.uniform(0.05, 0.9).cdf).pvalue > 1e-4


@pytest.mark.parametrize("name", ["gaussian", "uniform"])
def test_gaussian_and_uniform_marginals(name: str) -> None:
    rng = np.random.default_rng(0)
    shape = (4000, PADDED_ROWS)
    exact = rng.normal(size=shape) if name == "gaussian" else rng.uniform(size=shape)
    exact = scipy.stats.kurtosis(exact, axis=1)
    found = scipy.stats.kurtosis(full_tables(name), axis=1).mean(axis=1)
    assert_mean_within_mcse(found, exact.mean(), expected_se=exact.std() / np.sqrt(len(exact)), label="kurtosis")


def test_quantile_maps_match_the_exact_distributions() -> None:
    scores = np.linspace(-3, 3, 61, dtype=np.float32)[None, :]
    levels = scipy.stats.norm.cdf(scores)
    for degrees, tolerance in ((2.0, 0.25), (3.0, 0.12), (8.0, 0.03)):
        exact = scipy.stats.t(degrees).ppf(levels)
        found = marginals.student_t(scores, np.full((1, 1), degrees))
        np.testing.assert_allclose(found, exact, rtol=tolerance, atol=1e-5)
        np.testing.assert_allclose(found[:, 10:-10], exact[:, 10:-10], rtol=0.05, atol=1e-5)
    for shape in (1.0, 5.0):
        exact = scipy.stats.gamma(shape).ppf(levels)
        np.testing.assert_allclose(marginals.gamma_like(scores, np.full((1, 1), shape)), exact, rtol=0.03, atol=0.03)
    np.testing.assert_allclose(marginals.bounded(scores, np.ones((1, 1))), levels, atol=1e-5)
    normal = scipy.stats.norm.ppf((np.arange(2000) + 0.5) / 2000)[None, :]
    two = np.asarray(marginals.bimodal(normal, np.full((1, 1), 4.0), np.zeros((1, 1)))) - 2.0
    near_centre, near_modes = np.mean(np.abs(two) < 0.5), np.mean(np.abs(np.abs(two) - 2.5) < 0.5)
    assert near_modes > 5 * near_centre


def test_levels_follow_their_probabilities_and_never_coincide() -> None:
    num_rows = 20_000
    num_levels = jnp.array([2, 5, 8])
    rng = np.random.default_rng(0)
    draws = rng.uniform(size=(2, 3, 8)).astype(np.float32)
    cuts, codes = jax.jit(marginals.levels_from_draws)(*draws, num_levels, jnp.array([False, True, True]), 0.05)
    to_levels = jax.jit(lambda s, m: marginals.to_levels(s, num_levels, cuts, codes, *marginals.inner_range(s, m)))
    scores = rng.normal(size=(3, num_rows)).astype(np.float32)
    values = np.asarray(to_levels(scores, jnp.ones(num_rows, bool)))
    for column, count in enumerate(np.asarray(num_levels)):
        assert set(np.unique(values[column])) == set(range(count))
        edges = np.concatenate([[0.0], scipy.stats.norm.cdf(np.asarray(cuts)[column, : count - 1]), [1.0]])
        shares = np.diff(edges)
        assert np.min(shares) > 0.0499
        found = np.array([np.mean(values[column] == code) for code in np.asarray(codes)[column, :count]])
        assert np.all(np.abs(found - shares) < 5 * np.sqrt(shares * (1 - shares) / num_rows))
    # All scores on one side of every cut: the extreme row still differs.
    for shift in (-50.0, 50.0):
        moved = np.asarray(to_levels(scores[:, :6] + np.float32(shift), jnp.ones(6, bool)))
        assert np.all(distinct(moved.T[None]) >= 2)


def test_dependence_is_present_and_varies_unless_switched_off() -> None:
    noise = 1.0 / (PADDED_ROWS - 1)  # mean squared correlation of independent columns
    independent = np.mean(correlations(full_tables("uniform")) ** 2, axis=1)
    assert_mean_within_mcse(independent, noise, label="squared correlation of independent columns")
    strength = np.sqrt(np.mean(correlations(full_tables("gaussian")) ** 2, axis=1))
    quiet = np.mean(strength < np.quantile(np.sqrt(independent), 0.95))
    assert 0.5 * 0.95 - 0.06 < quiet < 0.8  # half the tables are independent, some others nearly so
    assert np.quantile(strength, 0.9) - np.quantile(strength, 0.6) > 0.15
    assert np.max(np.abs(correlations(full_tables("gaussian")))) > 0.9
    tabular = np.sqrt(np.mean(correlations(full_tables("tabular")) ** 2, axis=1))
    assert np.mean(tabular > 0.15) > 0.25


def test_structural_columns_depend_on_each_other_also_nonlinearly_and_some_are_discrete() -> None:
    tables = full_tables("structural")
    linear = np.abs(correlations(tables))
    assert np.mean(linear.max(axis=1) > 0.5) > 0.5  # independent columns never reach this
    squares = np.abs(tables)
    squares = (squares - squares.mean(axis=1, keepdims=True)) / squares.std(axis=1, keepdims=True).clip(1e-3)
    folded = np.abs(correlations(squares))
    only_folded = (linear < 0.2) & (folded > 0.4)
    assert np.mean(np.any(only_folded, axis=1)) > 0.01  # by chance: never
    prior = make_covariate_prior("structural")
    discrete = distinct(tables) <= prior.max_levels
    assert_mean_within_mcse(discrete.mean(axis=1), prior.max_discrete_share / 2, label="share of discrete columns")


def test_structural_tables_may_be_wider_than_the_network() -> None:
    prior = make_covariate_prior("structural", max_layers=1, max_width=3, min_width=2, max_causes=1)
    table = np.asarray(jax.jit(lambda key: prior.sample(key, 12, jnp.ones(60, bool)))(jax.random.key(0)), np.float64)
    np.testing.assert_allclose(table.std(axis=0), 1.0, atol=1e-4)
    assert np.max(np.abs(np.corrcoef(table.T) - np.eye(12))) < 1.0 - 1e-6  # twelve different nodes


@dataclass(frozen=True)
class ConstantTables:
    """Stands for a component whose tables are recognised at once."""

    name: str
    value: float

    def sample(self, rng_key: jax.Array, num_columns: int, row_mask: jax.Array) -> jax.Array:
        return jnp.full((row_mask.shape[0], num_columns), self.value)


def test_mixture_draws_its_components_at_their_weights() -> None:
    weights = {"gaussian": 1.0, "uniform": 0.0, "tabular": 2.0, "structural": 5.0}
    parts = {name: ConstantTables(name, float(value)) for value, name in enumerate(weights)}
    prior = MixtureCovariates(**parts, **{f"{name}_weight": weight for name, weight in weights.items()})
    keys = jax.random.split(jax.random.key(0), 4000)
    tables = np.asarray(jax.jit(jax.vmap(lambda key: prior.sample(key, 2, jnp.ones(3, bool))))(keys))
    assert np.all(tables == tables[:, :1, :1])  # whole tables are chosen
    counts = np.bincount(tables[:, 0, 0].astype(int), minlength=4)
    assert counts[1] == 0
    assert scipy.stats.chisquare(counts[[0, 2, 3]], 4000 * np.array([1, 2, 5]) / 8).pvalue > 1e-4


@pytest.mark.parametrize(
    ("name", "options", "match"),
    [
        ("tabullar", {}, r"Did you mean 'tabular'.*gaussian, uniform, tabular, structural, mixture"),
        ("tabular", {"binary_wieght": 0.3}, r"no option 'binary_wieght'.*Did you mean 'binary_weight'"),
        ("tabular", {"binary_weight": -1.0}, r"binary_weight.*received binary_weight=-1.0"),
        ("tabular", {"max_levels": 2}, "at least 3 for max_levels"),
        ("tabular", {"min_degrees": 1.0}, "min_degrees"),
        ("tabular", {"min_level_share": 0.2}, "min_level_share"),
        ("tabular", {"binary_weight": "often"}, "expects a number for binary_weight; received 'often'"),
        ("tabular", {"binary_weight": {"rate": 1}}, "is a number"),
        ("gaussian", {"max_strength": float("nan")}, "max_strength"),
        ("structural", {"max_width": 2}, "max_width"),
        ("structural", {"max_layers": 1.5}, "whole number"),
        ("structural", {"min_noise": 1.0}, "max_noise"),
        ("mixture", {"structural": {"max_layer": 2}}, "Did you mean 'max_layers'"),
        ("mixture", dict.fromkeys([f"{n}_weight" for n in COVARIATE_PRIORS if n != "mixture"], 0.0), "positive weight"),
    ],
)
def test_misuse_is_a_clear_error(name: str, options: dict, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        make_covariate_prior(name, **options)


def test_bad_arguments_of_sample_are_clear_errors() -> None:
    prior = make_covariate_prior("gaussian")
    with pytest.raises(ValueError, match="num_columns >= 1; received 0"):
        prior.sample(jax.random.key(0), 0, np.ones(4, bool))
    with pytest.raises(ValueError, match=r"received shape \(2, 4\)"):
        prior.sample(jax.random.key(0), 2, np.ones((2, 4), bool))


@pytest.mark.parametrize("name", COVARIATE_PRIORS)
def test_priors_are_hashable_records_with_options_as_fields(name: str) -> None:
    prior = make_covariate_prior(name)
    assert isinstance(prior, CovariatePrior)
    assert prior.name == name
    assert hash(prior) == hash(make_covariate_prior(name))
    assert make_covariate_prior("mixture", tabular={"binary_weight": 0.5}).tabular.binary_weight == 0.5
