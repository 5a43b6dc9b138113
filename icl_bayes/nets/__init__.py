"""Networks: dataset encoders and the velocity decoder (flax nnx). They know no task."""

from icl_bayes.nets.columns import ColumnFlow
from icl_bayes.nets.config import ModelConfig, ModelShape
from icl_bayes.nets.model import InContextFlow, Memory, count_parameters, squash
from icl_bayes.nets.velocity import make_velocity, residual_score

__all__ = [
    "ColumnFlow",
    "InContextFlow",
    "Memory",
    "ModelConfig",
    "ModelShape",
    "count_parameters",
    "make_velocity",
    "residual_score",
    "squash",
]
