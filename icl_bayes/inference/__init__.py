"""The public posterior: load a network, sample, summarize, export."""

from icl_bayes.inference.network import AmortizedPosterior, NetworkSampler, load, shipped_networks
from icl_bayes.inference.posterior import Posterior

__all__ = ["AmortizedPosterior", "NetworkSampler", "Posterior", "load", "shipped_networks"]
