"""The public posterior: load a network, sample, summarize, export."""

from icl_bayes.inference.network import AmortizedPosterior, load, shipped_networks
from icl_bayes.inference.network_sampler import NetworkSampler, RefinedSampler
from icl_bayes.inference.posterior import Posterior

__all__ = ["AmortizedPosterior", "NetworkSampler", "Posterior", "RefinedSampler", "load", "shipped_networks"]
