"""Types of everything that can be configured, registered with Hydra."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from icl_bayes.benchmark.settings import CalibrationSettings, DemoSettings, EvaluationSettings, ReproduceSettings
from icl_bayes.nets import ModelConfig
from icl_bayes.training import FlowConfig, NetworkConfig, TargetsConfig, TaskConfig, TrainingConfig


@dataclass(frozen=True)
class TrainSettings:
    """Everything that ``icl-bayes train`` needs.

    Attributes:
        task, model, flow, targets, training: the network, see :class:`icl_bayes.training.NetworkConfig`.
        variant: name of the experiment, part of the directory's.
        out: directory of the run.
        minutes: if positive, the number of steps is chosen so that the schedule takes about as long
            on this machine, compilation and checks apart.
        evaluate: whether to compute the periodic held-out C2ST.
        distributed: whether several hosts train together (``jax.distributed``).
    """

    task: TaskConfig = field(default_factory=TaskConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    flow: FlowConfig = field(default_factory=FlowConfig)
    targets: TargetsConfig = field(default_factory=TargetsConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    variant: str = "custom"
    out: str = "runs/network"
    minutes: float = 0.0
    evaluate: bool = True
    distributed: bool = False

    def __post_init__(self) -> None:
        if self.minutes < 0.0:
            raise ValueError(f"minutes must not be negative; received {self.minutes}.")
        if self.minutes and self.distributed:
            raise ValueError("minutes is for one host, as hosts would count differently; set training.num_steps.")
        self.network()  # combinations that don't fit together are known before anything is computed
        self.flow.make_solver()

    def network(self) -> NetworkConfig:
        """The part that defines the network."""
        return NetworkConfig(self.task, self.model, self.flow, self.targets, self.training)


@dataclass(frozen=True)
class SampleSettings:
    """Everything that ``icl-bayes sample`` needs.

    Attributes:
        file: a CSV file whose first line names the columns.
        target: name of the response column; empty for a model without response.
        net: shipped network or checkpoint directory.
        program: ``module:name`` of a task of one's own, for which the network was trained; its rows are columns of the
            file by their names.
        draws: number of posterior draws.
        seed: of the draws.
        out: file for the draws, ``.csv``, ``.npz`` or ``.nc``; nothing is written when empty.
        features: feature columns in order; all but the target when empty.
        standardize: scale features (and a Gaussian response) to mean 0 and standard deviation 1.
        solver_steps: steps of the network's own solver, 0 for its own number.
        polish: number of HMC moves from every draw.
        refine: check the draws, repair them where that is needed, and print the certificate.
    """

    file: str
    net: str
    target: str = ""
    program: str = ""
    draws: int = 1000
    seed: int = 0
    out: str = ""
    features: list[str] = field(default_factory=list)
    standardize: bool = False
    solver_steps: int = 0
    polish: int = 0
    refine: bool = False


@dataclass(frozen=True)
class GlmSettings:
    """Everything that ``icl-bayes glm`` needs; see :func:`icl_bayes.glm`.

    Attributes:
        file: a CSV file whose first line names the columns.
        formula: such as ``y ~ x1 + C(group)``.
        family, offset, weights, precision, trials, missing, engine: as there.
        priors: each as ``NAME=PRIOR``, e.g. ``x1=normal(0, 1)``.
        draws: number of posterior draws.
        seed: of the draws.
        out: file for the posterior, ``.nc`` (ArviZ's InferenceData) or ``.csv``; nothing is written when empty.
        report: HTML file; nothing is written when empty.
    """

    file: str
    formula: str
    family: str = "gaussian"
    priors: list[str] = field(default_factory=list)
    offset: str = ""
    weights: str = ""
    precision: str = ""
    trials: str = ""
    missing: str = "refuse"
    engine: str = "auto"
    draws: int = 1000
    seed: int = 0
    out: str = ""
    report: str = ""

    def stated_priors(self) -> dict[str, str]:
        """Priors by name.

        Raises:
            ValueError: for one without a name.
        """
        found = {}
        for text in self.priors:
            name, equals, prior = text.partition("=")
            if not equals:
                raise ValueError(f"A prior is given as NAME=PRIOR, e.g. 'x1=normal(0, 1)'; received {text!r}.")
            found[name.strip()] = prior.strip()
        return found


SCHEMAS: dict[str, Any] = {
    "train": TrainSettings,
    "sample": SampleSettings,
    "glm": GlmSettings,
    "evaluate": EvaluationSettings,
    "reproduce": ReproduceSettings,
    "demo": DemoSettings,
    "calibrate": CalibrationSettings,
}


def _thaw(node: DictConfig) -> DictConfig:
    """Frozen dataclasses give read-only nodes; composing has to write into them."""
    node._set_flag("readonly", None)
    for name in node:
        child = node._get_node(name)
        if isinstance(child, DictConfig):
            _thaw(child)
    return node


def register(command: str) -> None:
    """Make the schema of a command known to Hydra as ``COMMAND_schema``."""
    node = _thaw(OmegaConf.structured(SCHEMAS[command]))
    ConfigStore.instance().store(name=f"{command}_schema", node=node, provider="icl_bayes")
