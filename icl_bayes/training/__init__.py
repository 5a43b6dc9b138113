"""Training: exact-start targets, the loop, checkpoints."""

from icl_bayes.training.checkpoint import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from icl_bayes.training.config import FlowConfig, NetworkConfig, TargetsConfig, TaskConfig, TrainingConfig
from icl_bayes.training.fit import fit
from icl_bayes.training.network import Network, build_network
from icl_bayes.training.train import DENOISED, default_config, train

__all__ = [
    "DENOISED",
    "Checkpoint",
    "CheckpointError",
    "FlowConfig",
    "Network",
    "NetworkConfig",
    "TargetsConfig",
    "TaskConfig",
    "TrainingConfig",
    "build_network",
    "default_config",
    "fit",
    "load_checkpoint",
    "save_checkpoint",
    "train",
]
