"""The public posterior: load a network, sample, summarize, export."""

from icl_bayes.inference.evidence import compare_evidence
from icl_bayes.inference.foreign import from_inference_data
from icl_bayes.inference.network import AmortizedPosterior, load, shipped_networks
from icl_bayes.inference.network_sampler import NetworkSampler, RefinedSampler
from icl_bayes.inference.posterior import Posterior

__all__ = [
    "AmortizedPosterior",
    "NetworkSampler",
    "Posterior",
    "RefinedSampler",
    "compare_evidence",
    "from_inference_data",
    "load",
    "shipped_networks",
]
