"""Regression for users of data frames: formula, data and priors in; a certified posterior with names out."""

from icl_bayes.regression.comparison import compare
from icl_bayes.regression.fit import glm, glm_batch
from icl_bayes.regression.priors import Prior
from icl_bayes.regression.result import RegressionPosterior

__all__ = ["Prior", "RegressionPosterior", "compare", "glm", "glm_batch"]
