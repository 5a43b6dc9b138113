"""Distances between two sets of draws: classifier tests, MMD and Wasserstein.

Every function takes ``(num_draws, dim)`` and ``(num_reference, dim)`` matrices of compared
sites in constrained units and returns plain floats. Rows are joint draws; nothing here ever
permutes one column against another. The module imports neither JAX nor the rest of the
package, so that scoring processes can load it by itself, and needs SciPy, scikit-learn and POT
only inside the functions that use them.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

MMD_MULTIPLIERS = (0.25, 0.5, 1.0, 2.0, 4.0)
METRICS = ("c2st", "c2st_auc", "c2st_ordered", "mmd", "w1", "w2")
"""Names of the scores that `two_sample_scores` returns, in that order."""
OTHER_METRICS = ("c2st_sbibm",)
"""Scores that are computed only where they are asked for."""
ORDERED_METRICS = ("c2st_ordered",)
"""Those that exist only where components may be permuted."""

_BLOCK_ENTRIES = 4_000_000  # pairwise entries held at once by the MMD: 32 MB of float64


@dataclass(frozen=True)
class C2ST:
    """Classifier two-sample test, mean over folds; 0.5 when the sets can't be told apart.

    Attributes:
        accuracy: balanced accuracy of hard predictions, which is what the published
            "ROC-AUC" computes (the area under the curve of hard labels is the same number).
        auc: area under the ROC curve of the same forests' predicted probabilities.
    """

    accuracy: float
    auc: float


def _check(draws: np.ndarray, reference: np.ndarray, at_least: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Both sets as float64 matrices, or an error that names what is wrong."""
    checked = []
    for name, values in (("draws", draws), ("reference", reference)):
        matrix = np.asarray(values, dtype=np.float64)
        if matrix.ndim != 2:
            raise ValueError(f"{name} must have shape (num_draws, dim); received shape {matrix.shape}.")
        if matrix.shape[0] < at_least:
            raise ValueError(f"{name} needs at least {at_least} rows; received {matrix.shape[0]}.")
        bad_rows = int(np.sum(~np.isfinite(matrix).all(axis=1)))
        if bad_rows:
            raise ValueError(
                f"{name} holds {bad_rows} of {matrix.shape[0]} rows with NaN or infinite values; "
                "a distance to them is undefined, so drop the method's result or mend it first."
            )
        checked.append(matrix)
    if checked[0].shape[1] != checked[1].shape[1]:
        raise ValueError(
            f"draws and reference must share their columns; received {checked[0].shape[1]} "
            f"and {checked[1].shape[1]} (compare the same sites of both)."
        )
    return checked[0], checked[1]


def _cut(values: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """``size`` rows without replacement, whole rows only; all of them in order when they fit."""
    return values if len(values) == size else values[np.sort(rng.choice(len(values), size, replace=False))]


def c2st(draws: np.ndarray, reference: np.ndarray, *, seed: int, folds: int = 10) -> C2ST:
    """Classifier two-sample test with scikit-learn's default random forest (100 trees).

    Stratified, shuffled folds; both sets cut to the smaller size; no feature scaling. One
    fit per fold serves both numbers.

    Args:
        draws: ``(num_draws, dim)``.
        reference: ``(num_reference, dim)``.
        seed: fixes the cut, the folds and the forests.
        folds: number of folds, at most the smaller set's size.

    Raises:
        ValueError: on shapes that don't agree, non-finite values or too few rows.
    """
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.metrics import balanced_accuracy_score, roc_auc_score
    from sklearn.model_selection import StratifiedKFold

    draws, reference = _check(draws, reference, at_least=folds)
    rng = np.random.default_rng(seed)
    size = min(len(draws), len(reference))
    features = np.concatenate([_cut(draws, size, rng), _cut(reference, size, rng)])
    labels = np.repeat([0, 1], size)
    accuracies, areas = [], []
    for train, test in StratifiedKFold(folds, shuffle=True, random_state=seed).split(features, labels):
        forest = RandomForestClassifier(random_state=seed).fit(features[train], labels[train])
        probability = forest.predict_proba(features[test])[:, 1]
        # A forest predicts its first class on ties, so 0.5 counts as label 0.
        accuracies.append(balanced_accuracy_score(labels[test], probability > 0.5))
        areas.append(roc_auc_score(labels[test], probability))
    return C2ST(accuracy=float(np.mean(accuracies)), auc=float(np.mean(areas)))


def _kernel_sum(left: np.ndarray, right: np.ndarray, scales: np.ndarray) -> float:
    """Sum over all pairs of the sum of Gaussian kernels, a block of rows at a time."""
    from scipy.spatial.distance import cdist

    rows = max(1, _BLOCK_ENTRIES // len(right))
    total = 0.0
    for start in range(0, len(left), rows):
        squared = cdist(left[start : start + rows], right, "sqeuclidean")
        # exp(-d/4h), its square, its fourth power, ...: one exponential serves all five kernels.
        kernel = np.exp(-squared / scales[-1])
        total += kernel.sum()
        for _ in range(len(scales) - 1):
            np.square(kernel, out=kernel)
            total += kernel.sum()
    return float(total)


def mmd(draws: np.ndarray, reference: np.ndarray) -> float:
    """The paper's maximum mean discrepancy: squared form, biased V-statistic.

    The kernel is the sum over ``c`` in ``MMD_MULTIPLIERS`` of ``exp(-d^2 / (c h))``, where ``h``
    is the mean squared distance of distinct pooled points. The diagonal is kept, so the value
    is never negative and stays a little above zero for equal laws. Works in blocks: memory
    doesn't grow with the product of the sizes.

    Args:
        draws: ``(num_draws, dim)``.
        reference: ``(num_reference, dim)``.
    """
    draws, reference = _check(draws, reference)
    pooled = np.concatenate([draws, reference])
    centred = pooled - pooled.mean(axis=0)
    # The sum of squared distances over ordered pairs is 2 N times the sum of squares about the mean.
    bandwidth = 2.0 * np.sum(centred**2) / (len(pooled) - 1)
    if bandwidth == 0.0:
        return 0.0  # every point is the same point
    scales = bandwidth * np.asarray(MMD_MULTIPLIERS)
    within_draws = _kernel_sum(draws, draws, scales) / len(draws) ** 2
    within_reference = _kernel_sum(reference, reference, scales) / len(reference) ** 2
    across = _kernel_sum(draws, reference, scales) / (len(draws) * len(reference))
    return max(0.0, within_draws - 2.0 * across + within_reference)


def _optimal_cost(draws: np.ndarray, reference: np.ndarray, metric: str, max_iterations: int) -> float:
    """Exact transport cost between uniform weights; raises rather than return a truncated one."""
    import ot
    from scipy.spatial.distance import cdist

    draws, reference = _check(draws, reference, at_least=1)
    cost = cdist(draws, reference, metric)  # pyright: ignore[reportCallIssue, reportArgumentType]
    weights = np.full(cost.shape[0], 1.0 / cost.shape[0]), np.full(cost.shape[1], 1.0 / cost.shape[1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the same text comes back in the log, which is read below
        value, log = ot.emd2(*weights, cost, numItermax=max_iterations, log=True)
    if log["warning"] is not None:
        raise RuntimeError(
            f"Optimal transport between {cost.shape[0]} and {cost.shape[1]} points did not finish: "
            f"{log['warning']} Raise max_iterations (now {max_iterations}) or compare fewer draws."
        )
    return float(value)


def wasserstein1(draws: np.ndarray, reference: np.ndarray, *, max_iterations: int = 10_000_000) -> float:
    """Exact Wasserstein-1 distance (Euclidean cost), in the units of the sites.

    The published "W2" column holds this quantity.

    Args:
        draws: ``(num_draws, dim)``.
        reference: ``(num_reference, dim)``.
        max_iterations: cap of the network simplex.

    Raises:
        RuntimeError: if the cap is reached; a truncated value is never returned.
    """
    return _optimal_cost(draws, reference, "euclidean", max_iterations)


def wasserstein2(draws: np.ndarray, reference: np.ndarray, *, max_iterations: int = 10_000_000) -> float:
    """Exact Wasserstein-2 distance: the root of the optimal squared-Euclidean cost.

    Arguments and errors as for `wasserstein1`.
    """
    return float(np.sqrt(max(0.0, _optimal_cost(draws, reference, "sqeuclidean", max_iterations))))


def in_order(draws: np.ndarray, components: tuple[tuple[int, ...], ...]) -> np.ndarray:
    """Draws ``(num_draws, dim)`` with the components of each, kept whole, in the order of their first column.

    What is left does not depend on how components were numbered, and everything else is: a classifier can no longer
    be kept busy by permutations.

    Args:
        components: for each component the columns that hold it, all in the same order.
    """
    columns = np.asarray(components)
    order = np.argsort(draws[:, columns[:, 0]], axis=1, kind="stable")
    ordered = np.array(draws, copy=True)
    ordered[:, columns.ravel()] = draws[np.arange(len(draws))[:, None], columns[order].reshape(len(draws), -1)]
    return ordered


def c2st_sbibm(draws: np.ndarray, reference: np.ndarray) -> float:
    """C2ST as the benchmark of simulation-based inference computes it, for thousands of draws.

    Lueckmann et al. (2021), appendix M.4: a perceptron with two hidden layers of ten units per dimension, both samples
    standardized by moments of the reference, plain accuracy over five folds.

    Args:
        draws: ``(num_draws, dim)``.
        reference: ``(num_reference, dim)``.

    Raises:
        ValueError: for samples of different dimensions, or values that are not finite.
    """
    from sklearn.model_selection import KFold, cross_val_score
    from sklearn.neural_network import MLPClassifier

    draws, reference = _check(draws, reference)
    center, spread = reference.mean(axis=0), reference.std(axis=0, ddof=1)
    both = (np.concatenate([reference, draws]) - center) / spread
    labels = np.repeat([0, 1], [len(reference), len(draws)])
    units = 10 * reference.shape[1]
    classifier = MLPClassifier((units, units), max_iter=10_000, random_state=1)
    return float(np.mean(cross_val_score(classifier, both, labels, cv=KFold(5, shuffle=True, random_state=1))))


def two_sample_scores(
    draws: np.ndarray,
    reference: np.ndarray,
    *,
    seed: int,
    metrics: tuple[str, ...] = METRICS,
    components: tuple[tuple[int, ...], ...] = (),
) -> dict[str, float]:
    """Several scores of one set of draws, by name.

    Args:
        draws: ``(num_draws, dim)``.
        reference: ``(num_reference, dim)``.
        seed: seed of the classifier test.
        metrics: which of `METRICS` and `OTHER_METRICS` to compute.
        components: see :func:`in_order`; needed by `ORDERED_METRICS`.
    """
    unknown = [name for name in metrics if name not in METRICS + OTHER_METRICS]
    if unknown:
        raise ValueError(f"Unknown metrics {unknown}; choose from {[*METRICS, *OTHER_METRICS]}.")
    if not components and any(name in ORDERED_METRICS for name in metrics):
        raise ValueError(f"Metrics {list(ORDERED_METRICS)} need the columns of exchangeable components.")
    scores: dict[str, float] = {}
    if "c2st" in metrics or "c2st_auc" in metrics:
        classifier = c2st(draws, reference, seed=seed)
        scores["c2st"], scores["c2st_auc"] = classifier.accuracy, classifier.auc
    if "c2st_ordered" in metrics:
        ordered = c2st(in_order(draws, components), in_order(reference, components), seed=seed)
        scores["c2st_ordered"] = ordered.accuracy
    if "c2st_sbibm" in metrics:
        scores["c2st_sbibm"] = c2st_sbibm(draws, reference)
    if "mmd" in metrics:
        scores["mmd"] = mmd(draws, reference)
    if "w1" in metrics:
        scores["w1"] = wasserstein1(draws, reference)
    if "w2" in metrics:
        scores["w2"] = wasserstein2(draws, reference)
    return {name: scores[name] for name in metrics}
