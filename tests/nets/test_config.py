"""Architectures as data: errors list choices, and the paper's has the published size."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from flax import nnx

from icl_bayes.nets import InContextFlow, ModelConfig, ModelShape, count_parameters

PAPER = ModelConfig(
    encoder="transformer",
    width=512,
    heads=8,
    feedforward=1024,
    encoder_layers=8,
    decoder_blocks=6,
    head_layers=3,
    base="standard",
    inputs="theta",
    parametrization="velocity",
    pooled_context=False,
    time_features=0,
    dropout=0.1,
)


def abstract(config: ModelConfig, shape: ModelShape) -> InContextFlow:
    """A module of shapes, without the memory of its weights."""
    return nnx.eval_shape(lambda: InContextFlow(config, shape, rngs=nnx.Rngs(0, dropout=1)))


def test_the_papers_architecture_has_about_its_43_million_parameters() -> None:
    # GLM 1: five coefficients and the noise variance; a row holds five covariates and two forms of the response.
    published = 43.1e6
    assert count_parameters(abstract(PAPER, ModelShape(6, 7, 4))) == pytest.approx(published, rel=0.02)


def test_parameters_are_counted_as_they_are_stored() -> None:
    config, shape = ModelConfig(width=8, heads=2, feedforward=12), ModelShape(3, 4, 2)
    params = jax.eval_shape(lambda: nnx.state(InContextFlow(config, shape, rngs=nnx.Rngs(0, dropout=1)), nnx.Param))
    stored = sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params))
    assert count_parameters(abstract(config, shape)) == stored > 1000


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"encoder": "gru"},
            r"model\.encoder must be one of \('transformer', 'inducing', 'mlp', 'columns'\); received 'gru'",
        ),
        ({"base": "normal"}, r"model\.base must be one of \('standard', 'gaussian', 'laplace', 'variational'"),
        ({"inputs": "score"}, r"model\.inputs must be one of \('theta', 'theta_and_score', 'theta_and_denoised'\)"),
        ({"layout": "many"}, r"model\.layout must be one of \('single', 'coordinate', 'component', 'column'\)"),
        ({"parametrization": "noise"}, r"model\.parametrization must be one of \('velocity', 'residual'\)"),
        ({"compute_dtype": "float16"}, r"model\.compute_dtype must be one of \('float32', 'bfloat16', 'float64'\)"),
        ({"width": 50, "heads": 4}, r"model\.width \(50\) must be a multiple of model\.heads \(4\)"),
    ],
)
def test_unusable_settings_list_the_choices(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ModelConfig(**settings)
