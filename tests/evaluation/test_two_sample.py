"""Every distance at both ends (same law, close, disjoint), against independent formulas, and with negative controls."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import sqrtm

from icl_bayes.evaluation import two_sample
from icl_bayes.evaluation.two_sample import C2ST, METRICS, c2st, mmd, two_sample_scores, wasserstein1, wasserstein2


def gaussian(seed: int, size: int, dim: int = 3, shift: float = 0.0, scale: float = 1.0) -> np.ndarray:
    return shift + scale * np.random.default_rng(seed).normal(size=(size, dim))


def naive_mmd(x: np.ndarray, y: np.ndarray) -> float:
    """Double loop over pairs, straight from the definition."""
    pooled = np.concatenate([x, y])
    distances = [np.sum((a - b) ** 2) for i, a in enumerate(pooled) for j, b in enumerate(pooled) if i != j]
    bandwidth = np.mean(distances)

    def kernel(a: np.ndarray, b: np.ndarray) -> float:
        return sum(np.exp(-np.sum((a - b) ** 2) / (bandwidth * c)) for c in (0.25, 0.5, 1, 2, 4))

    def mean_kernel(left: np.ndarray, right: np.ndarray) -> float:
        return float(np.mean([[kernel(a, b) for b in right] for a in left]))

    return mean_kernel(x, x) - 2 * mean_kernel(x, y) + mean_kernel(y, y)


def test_c2st_equals_plain_cross_validation():
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    draws, reference = gaussian(0, 120), gaussian(1, 120, shift=0.7)
    features = np.concatenate([draws, reference])
    labels = np.concatenate([np.zeros(120, int), np.ones(120, int)])
    folds = StratifiedKFold(n_splits=10, shuffle=True, random_state=5)

    def plain(scoring: str) -> float:
        return cross_val_score(
            RandomForestClassifier(random_state=5), features, labels, cv=folds, scoring=scoring
        ).mean()

    result = c2st(draws, reference, seed=5)
    assert result.accuracy == pytest.approx(plain("balanced_accuracy"), abs=1e-12)
    assert result.auc == pytest.approx(plain("roc_auc"), abs=1e-12)


def test_c2st_at_both_ends():
    size = 300
    same = c2st(gaussian(0, size), gaussian(1, size), seed=0)
    close = c2st(gaussian(0, size), gaussian(1, size, shift=0.6), seed=0)
    disjoint = c2st(gaussian(0, size), gaussian(1, size, shift=30.0), seed=0)
    # An honest classifier's mean accuracy over 2 x size independent labels.
    error = 0.5 / np.sqrt(2 * size)
    assert abs(same.accuracy - 0.5) < 4 * error
    assert abs(same.auc - 0.5) < 4 * error
    # The best classifier of two Gaussians 0.6 apart in each of 3 columns is right in Phi(0.52) = 0.70 of cases.
    assert 0.5 + 3 * error < close.accuracy < 0.70 + 3 * error
    assert close.accuracy < close.auc < 1.0
    assert disjoint == C2ST(accuracy=1.0, auc=1.0)


def test_c2st_sees_dependence_that_a_column_shuffle_destroys():
    rng = np.random.default_rng(3)
    first = rng.normal(size=(600, 1))
    joint = np.concatenate([first, 0.9 * first + np.sqrt(1 - 0.81) * rng.normal(size=(600, 1))], axis=1)
    reference, draws = joint[:300], joint[300:]
    shuffled = np.stack([draws[:, 0], rng.permutation(draws[:, 1])], axis=1)
    error = 0.5 / np.sqrt(600)
    assert abs(c2st(draws, reference, seed=0).accuracy - 0.5) < 4 * error
    assert c2st(shuffled, reference, seed=0).accuracy > 0.5 + 4 * error


def test_c2st_cuts_to_the_smaller_set_and_repeats_itself():
    draws, reference = gaussian(0, 60), gaussian(1, 200)
    first = c2st(draws, reference, seed=2, folds=3)
    assert first == c2st(draws, reference, seed=2, folds=3)
    # Balanced folds: without the cut, the majority class alone would give a different chance level.
    assert abs(first.accuracy - 0.5) < 4 * 0.5 / np.sqrt(120)


@pytest.mark.parametrize("sizes", [(17, 17), (12, 23)])
def test_mmd_equals_double_loop(sizes):
    x, y = gaussian(0, sizes[0], 2), gaussian(1, sizes[1], 2, shift=0.5, scale=1.5)
    assert mmd(x, y) == pytest.approx(naive_mmd(x, y), rel=1e-10)


def test_mmd_in_blocks_changes_nothing(monkeypatch):
    x, y = gaussian(0, 50), gaussian(1, 70, shift=0.3)
    whole = mmd(x, y)
    monkeypatch.setattr(two_sample, "_BLOCK_ENTRIES", 200)
    assert mmd(x, y) == pytest.approx(whole, rel=1e-12)


def test_mmd_at_both_ends():
    same = mmd(gaussian(0, 500), gaussian(1, 500))
    close = mmd(gaussian(0, 500), gaussian(1, 500, shift=0.3))
    disjoint = mmd(gaussian(0, 500), gaussian(1, 500, shift=100.0))
    # The diagonal alone adds up to 5 (1/500 + 1/500) = 0.02 in expectation for equal laws.
    assert 0.0 < same < 0.02
    assert same * 2 < close < 1.0
    # h is then half the squared gap: each set agrees with itself, pairs across give sum exp(-2/c).
    across = sum(np.exp(-2.0 / c) for c in two_sample.MMD_MULTIPLIERS)
    assert disjoint == pytest.approx(2 * (5 - across), rel=0.01)
    assert mmd(np.ones((5, 2)), np.ones((7, 2))) == 0.0


def test_wasserstein_in_one_dimension_is_the_sorted_matching():
    x, y = gaussian(0, 200, 1), gaussian(1, 200, 1, shift=0.4, scale=2.0)
    gaps = np.sort(x[:, 0]) - np.sort(y[:, 0])
    assert wasserstein1(x, y) == pytest.approx(np.mean(np.abs(gaps)), rel=1e-9)
    assert wasserstein2(x, y) == pytest.approx(np.sqrt(np.mean(gaps**2)), rel=1e-9)


def test_w2_approaches_the_closed_form_of_gaussians():
    rng = np.random.default_rng(0)
    factor_a = np.array([[1.5, 0.0], [0.8, 0.6]])
    factor_b = np.array([[0.7, 0.0], [-0.3, 1.2]])
    cov_a, cov_b = factor_a @ factor_a.T, factor_b @ factor_b.T
    shift = np.array([2.0, -1.0])
    root = np.real(sqrtm(sqrtm(cov_a) @ cov_b @ sqrtm(cov_a)))
    exact = np.sqrt(shift @ shift + np.trace(cov_a + cov_b - 2 * root))
    values = [
        wasserstein2(rng.normal(size=(400, 2)) @ factor_a.T, shift + rng.normal(size=(400, 2)) @ factor_b.T)
        for _ in range(8)
    ]
    # The empirical distance carries an upward bias below the floor (the same law against itself), second order here.
    floor = wasserstein2(rng.normal(size=(400, 2)) @ factor_a.T, rng.normal(size=(400, 2)) @ factor_a.T)
    error = np.std(values, ddof=1) / np.sqrt(len(values))
    assert abs(np.mean(values) - exact) < 3 * error + floor**2 / exact


def test_wasserstein_at_both_ends():
    x = gaussian(0, 150)
    assert wasserstein1(x, x[::-1]) == pytest.approx(0.0, abs=1e-12)
    assert wasserstein2(x, x[::-1]) == pytest.approx(0.0, abs=1e-7)
    same = wasserstein2(gaussian(0, 150), gaussian(1, 150))
    close = wasserstein2(gaussian(0, 150), gaussian(1, 150, shift=1.0))
    assert 0.0 < same < close
    # A pure translation is transported by itself, whatever the sample.
    offset = np.array([3.0, 4.0, 0.0])
    assert wasserstein1(x, x + offset) == pytest.approx(5.0, rel=1e-9)
    assert wasserstein2(x, x + offset) == pytest.approx(5.0, rel=1e-9)
    assert wasserstein2(gaussian(0, 100), gaussian(1, 150)) > 0.0


def test_w1_is_not_w2():
    x = np.zeros((2, 1))
    y = np.array([[0.0], [2.0]])
    assert wasserstein1(x, y) == pytest.approx(1.0)
    assert wasserstein2(x, y) == pytest.approx(np.sqrt(2.0))


def test_transport_that_hits_its_cap_raises():
    with pytest.raises(RuntimeError, match=r"did not finish.*max_iterations"):
        wasserstein2(gaussian(0, 200), gaussian(1, 200), max_iterations=10)


def test_scores_by_name():
    draws, reference = gaussian(0, 60), gaussian(1, 60, shift=0.5)
    scores = two_sample_scores(draws, reference, seed=1, components=((0,), (1,)))
    assert tuple(scores) == METRICS
    assert scores["mmd"] == mmd(draws, reference)
    assert scores["w1"] == wasserstein1(draws, reference)
    assert scores["w2"] == wasserstein2(draws, reference)
    assert two_sample_scores(draws, reference, seed=1, metrics=("mmd",)) == {"mmd": scores["mmd"]}


GOOD = np.zeros((20, 2)) + np.arange(20.0)[:, None]
WITH_NAN = np.where(np.arange(20)[:, None] == 3, np.nan, GOOD)
MISUSE = [
    (lambda: mmd(GOOD[:, 0], GOOD), r"shape \(num_draws, dim\).*\(20,\)"),
    (lambda: mmd(GOOD, GOOD[:, :1]), "share their columns; received 2 and 1"),
    (lambda: wasserstein1(WITH_NAN, GOOD), "draws holds 1 of 20 rows"),
    (lambda: wasserstein2(GOOD, WITH_NAN), "reference holds 1 of 20 rows"),
    (lambda: c2st(GOOD[:5], GOOD, seed=0), "draws needs at least 10 rows; received 5"),
    (lambda: two_sample_scores(GOOD, GOOD, seed=0, metrics=("w3",)), r"Unknown metrics \['w3'\]; choose from"),
]


@pytest.mark.parametrize(("call", "match"), MISUSE)
def test_misuse_is_named(call, match):
    with pytest.raises(ValueError, match=match):
        call()
