"""Out-of-distribution scores: uniform on data sets of the training, high on others."""

from __future__ import annotations

import jax
import numpy as np
import pytest

import icl_bayes
from icl_bayes.inference.certificate import certify
from icl_bayes.inference.novelty import Familiar


def test_scores_are_uniform_where_nothing_is_unusual() -> None:
    """Of correlated, skewed features; the compared data set takes no part in what it is measured by."""
    generator = np.random.default_rng(0)
    mixing = generator.normal(size=(30, 30))

    def draw(num: int) -> np.ndarray:
        return np.expm1(0.3 * generator.normal(size=(num, 30)) @ mixing / 5.0)

    scores = []
    for _ in range(10):
        familiar = Familiar.of(draw(256), 12)
        scores += [familiar.score(one) for one in draw(100)]
    assert np.mean(scores) == pytest.approx(0.5, abs=0.06)
    assert np.mean(np.asarray(scores) > 0.99) < 0.03
    shifted = [familiar.score(one + 3.0) for one in draw(50)]
    assert np.mean(np.asarray(shifted) > 0.99) > 0.9


def test_constant_features_do_no_harm() -> None:
    features = np.random.default_rng(0).normal(size=(256, 6))
    features[:, 2] = 3.0
    familiar = Familiar.of(features, 4)
    assert 0.0 <= familiar.score(features[0]) < 1.0
    assert familiar.score(np.where(np.arange(6) == 2, 4.0, features[0])) == 1.0


def test_a_network_knows_what_it_was_trained_for(net, dataset) -> None:
    assert net.novelty.score(net.prepare(dataset)) < 0.99
    programs = len(net.programs)
    unusual = icl_bayes.Dataset(x=40.0 * np.asarray(dataset["x"]), y=np.asarray(dataset["y"]))
    assert net.novelty.score(net.prepare(unusual)) > 0.99
    fewer = icl_bayes.Dataset(x=np.asarray(dataset["x"])[:28], y=np.asarray(dataset["y"])[:28])
    assert net.novelty.score(net.prepare(fewer)) < 0.99
    assert len(net.programs) == programs, "One program serves all numbers of rows of a bucket."
    certificate = net.sample(jax.random.key(0), unusual, 100).certificate()
    assert certificate.novelty > 0.99
    assert any("more unusual than" in reason for reason in certificate.reasons)


def test_an_unusual_data_set_is_a_remark_and_no_verdict() -> None:
    assert certify(np.zeros(100), novelty=1.0).verdict == "good"
    assert len(certify(np.zeros(100), novelty=1.0).reasons) == 1
    assert certify(np.zeros(100), novelty=0.9).reasons == ()
