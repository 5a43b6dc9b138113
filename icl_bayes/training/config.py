"""Settings of a training run, as plain data (Hydra composes them in ``icl_bayes.config``)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from icl_bayes.flow import DIVERGENCES, LIKELIHOOD_BASES, LOSSES, PATHS, Noise, Solver
from icl_bayes.nets import ModelConfig
from icl_bayes.precision import MATMUL_PRECISIONS
from icl_bayes.tasks import CUSTOM, Task, make_task

SMALL_BUCKET = 64
METRICS = ("posterior", "prior", "pilots", "warped", "modes")
WEIGHTED_LOSSES = ("stable_target", "stein_target", *DIVERGENCES)


@dataclass(frozen=True)
class TaskConfig:
    """Which task, and how it is simulated.

    Attributes:
        family, scenario: e.g. ``glm`` and 5.
        num_columns: number of covariates.
        covariates: covariate prior in simulation.
        hyperprior: ``fixed`` (the paper's constants) or ``varied``.
        program: of the family ``custom``: where a user's own task is, ``module:name``, or what it is called.
    """

    family: str = "glm"
    scenario: int = 1
    num_columns: int = 5
    covariates: str = "mixture"
    hyperprior: str = "fixed"
    program: str = ""

    def __post_init__(self) -> None:
        if (self.family == CUSTOM) != bool(self.program):
            raise ValueError(
                f"task.family={CUSTOM} and task.program=module:name belong together; received task.family="
                f"{self.family!r} and task.program={self.program!r}."
            )

    @property
    def name(self) -> str:
        if self.program:
            return f"{CUSTOM}/{self.program}"
        return f"{self.family}/{self.scenario}"

    def build(self) -> Task:
        """The task; one of a user's own is imported from where it is."""
        return make_task(
            self.name, num_columns=self.num_columns, covariates=self.covariates, hyperprior=self.hyperprior
        )


@dataclass(frozen=True)
class FlowConfig:
    """Path, loss, and the solver used at inference unless the caller asks for another.

    ``loss`` is a regression on the velocity, or ``hellinger``, the distance of draws from the posterior, for networks
    trained before (``training.start_from``); the latter trains for the solver that is set here.
    ``balanced`` divides the loss of a data set by the mean squared residual score under its base, and bounds the
    influence of any single one, so that posteriors far from their bases do not drown the others. ``wide_share`` is of
    the noise at inference, see :class:`icl_bayes.flow.Noise`. ``base_steps`` bounds the fixed-point steps that find a
    ``variational`` or ``modes`` base at inference.
    """

    path: str = "cosine"
    loss: str = "target_score"
    balanced: bool = False
    solver: str = "multistep"
    solver_steps: int = 2
    solver_exponent: float = 1.0
    wide_share: float = 0.0
    base_steps: int = 24

    def __post_init__(self) -> None:
        if self.path not in PATHS:
            raise ValueError(f"flow.path must be one of {sorted(PATHS)}; received {self.path!r}.")
        if self.loss not in LOSSES + DIVERGENCES:
            raise ValueError(f"flow.loss must be one of {sorted(LOSSES + DIVERGENCES)}; received {self.loss!r}.")
        if self.base_steps < 1:
            raise ValueError(f"flow.base_steps must be at least 1; received {self.base_steps}.")
        Noise(self.wide_share)  # raises where it is no share

    def make_solver(self) -> Solver:
        return Solver(self.solver, self.solver_steps, exponent=self.solver_exponent)


@dataclass(frozen=True)
class TargetsConfig:
    """Exact-start targets.

    Attributes:
        num_draws: posterior draws per data set, R. The first is the simulated theta itself.
        num_examples: how many of the draws, chosen anew, a step regresses on, or sets beside as many of the network's
            (``flow.loss=hellinger``); 0 for each of them once.
        num_moves: HMC moves between consecutive draws; 0 gives the paper's plain joint draw,
            and then ``num_draws`` must be 1.
        num_leapfrogs: leapfrog steps per move.
        step_size: in whitened coordinates; jittered by up to 20 %.
        metric: of the moves. ``posterior`` whitens by a Gaussian approximation of it (the base, if that is computed
            from the likelihood), ``prior`` not at all: for posteriors that have several modes, or are little narrower
            than the prior; ``pilots`` by the moments of weighted draws of the prior and its shrunken versions: for
            posteriors of few dimensions, whatever their modes and width; ``modes``, with that base, by the Gaussian of
            the mode. With the last three, step sizes vary over several octaves below the given one.
        shrunk_share: share of the data sets that are simulated from a shrunken prior, so that data which the prior
            seldom brings about, though its posterior is concentrated near the prior's center, are met in training.
            Draws are weighted so that they represent the posterior under the prior itself.
        newton_steps: damped Fisher-scoring steps for base and metric.
        variational_steps: fixed-point steps that follow (variational base, and metric of the moves).
        mode_starts: how many of the task's starting points are tried, 0 for all. Simulated data seldom need
            more than the two that come first, the task's best guess and zero; real data may.
    """

    num_draws: int = 16
    num_examples: int = 0
    num_moves: int = 1
    num_leapfrogs: int = 4
    step_size: float = 0.4
    metric: str = "posterior"
    shrunk_share: float = 0.0
    newton_steps: int = 12
    variational_steps: int = 8
    mode_starts: int = 0

    def __post_init__(self) -> None:
        if self.num_draws < 1 or self.num_moves < 0 or self.num_examples < 0:
            raise ValueError(
                "targets.num_draws must be at least 1, targets.num_moves and targets.num_examples at least 0."
            )
        if self.metric not in METRICS:
            raise ValueError(f"targets.metric must be one of {METRICS}; received {self.metric!r}.")
        if not 0.0 <= self.shrunk_share < 1.0:
            raise ValueError(f"targets.shrunk_share must lie in [0, 1); received {self.shrunk_share}.")
        if self.shrunk_share and (self.metric == "posterior" or self.num_draws == 1):
            raise ValueError(
                "targets.shrunk_share needs targets.metric=prior, pilots, warped or modes and several draws, which it "
                "weights."
            )
        if self.mode_starts < 0:
            raise ValueError(f"targets.mode_starts must not be negative; received {self.mode_starts}.")
        if self.num_moves == 0 and self.num_draws > 1:
            raise ValueError(
                f"targets.num_moves=0 would repeat one draw {self.num_draws} times; set targets.num_draws=1."
            )


@dataclass(frozen=True)
class TrainingConfig:
    """Optimization and bookkeeping.

    Attributes:
        num_steps: gradient steps of the whole schedule.
        batch_size: data sets per step at up to ``row_buckets[0]`` rows; larger buckets hold
            proportionally fewer, so that every step costs about the same.
        row_buckets: padded lengths; a step uses one of them.
        bucket_weights: probabilities of the buckets.
        min_rows: smallest number of rows; n is log-uniform from there to the bucket's length.
        fixed_rows: if positive, every data set has exactly this many rows (the paper: 50).
        learning_rate, warmup_fraction, initial_divisor, final_divisor: one-cycle cosine.
        l2: added to gradients before Adam, as in the paper.
        clip_norm: global gradient norm.
        ema_decay: of the weights that are evaluated and shipped.
        steps_per_call: gradient steps inside one compiled call; checkpoints fall between calls.
        passes: how many of these steps see every data set simulated for the call; must divide them.
        checkpoint_minutes, evaluate_steps: period of checkpoints and of held-out C2ST.
        num_held_out: validation data sets (seeds below 10,000).
        seed: batches are a pure function of ``(seed, step)``.
        start_from: directory of a network whose weights this one starts from; empty for fresh ones.
        matmul_precision: of the network's matrix products, ``float32``, ``tensorfloat32`` or ``bfloat16``; the last two
            are for GPUs. Tasks, bases and chains compute in float32 in any case, and so does inference.
    """

    num_steps: int = 4000
    batch_size: int = 64
    row_buckets: list[int] = field(default_factory=lambda: [64, 512])
    bucket_weights: list[float] = field(default_factory=lambda: [0.85, 0.15])
    min_rows: int = 10
    fixed_rows: int = 0
    learning_rate: float = 2e-3
    warmup_fraction: float = 0.1
    initial_divisor: float = 25.0
    final_divisor: float = 1e4
    l2: float = 0.0
    clip_norm: float = 1.0
    ema_decay: float = 0.995
    steps_per_call: int = 80
    passes: int = 16
    checkpoint_minutes: float = 2.0
    evaluate_steps: int = 1000
    num_held_out: int = 4
    seed: int = 0
    start_from: str = ""
    matmul_precision: str = "float32"

    def __post_init__(self) -> None:
        if len(self.row_buckets) != len(self.bucket_weights) or not self.row_buckets:
            raise ValueError("training.row_buckets and training.bucket_weights must have the same, positive length.")
        if self.matmul_precision not in MATMUL_PRECISIONS:
            raise ValueError(
                f"training.matmul_precision must be one of {sorted(MATMUL_PRECISIONS)}; received "
                f"{self.matmul_precision!r}."
            )
        if self.passes < 1 or self.steps_per_call % self.passes:
            raise ValueError(
                f"training.steps_per_call ({self.steps_per_call}) must be a multiple of training.passes "
                f"({self.passes})."
            )
        if self.num_steps % self.steps_per_call:
            raise ValueError(
                f"training.num_steps ({self.num_steps}) must be a multiple of training.steps_per_call "
                f"({self.steps_per_call}), so that a resumed run repeats itself."
            )

    @property
    def max_rows(self) -> int:
        """Largest number of rows seen in training."""
        return self.fixed_rows or max(self.row_buckets)


@dataclass(frozen=True)
class NetworkConfig:
    """Everything that defines a network and how it was trained; stored in its checkpoint."""

    task: TaskConfig = field(default_factory=TaskConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    flow: FlowConfig = field(default_factory=FlowConfig)
    targets: TargetsConfig = field(default_factory=TargetsConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def __post_init__(self) -> None:
        if self.targets.shrunk_share and self.flow.loss not in WEIGHTED_LOSSES:
            raise ValueError(
                f"targets.shrunk_share needs flow.loss={' or '.join(WEIGHTED_LOSSES)}, which take weights into account."
            )
        if self.flow.loss == "target_score" and (
            self.model.base not in LIKELIHOOD_BASES or self.model.parametrization != "residual"
        ):
            raise ValueError(
                f"flow.loss=target_score needs model.base={' or '.join(LIKELIHOOD_BASES)} and "
                "model.parametrization=residual."
            )
        if self.flow.loss in DIVERGENCES and (
            self.model.activation == "relu"
            or self.model.base == "gaussian"
            or self.flow.solver == "dopri5"
            or self.flow.balanced
        ):
            raise ValueError(
                f"flow.loss={self.flow.loss} needs the density of a smooth map with fixed steps and a base that is not "
                "learned: set model.activation=smooth_relu, and neither model.base=gaussian, flow.solver=dopri5 nor "
                "flow.balanced=true."
            )
        if self.flow.balanced and self.model.base not in LIKELIHOOD_BASES:
            raise ValueError(f"flow.balanced=true needs model.base={' or '.join(LIKELIHOOD_BASES)}.")
        if self.targets.metric not in ("posterior", self.model.base) and self._moves_in_base:
            raise ValueError(
                f"targets.metric={self.targets.metric} is for model.base=standard or gaussian; with "
                f"model.base={self.model.base} the base is the metric."
            )
        metric = self.targets.metric
        if metric in ("warped", "modes") and self.model.base != metric:
            raise ValueError(
                f"targets.metric={metric} needs model.base={metric}; received model.base={self.model.base}."
            )
        if self.model.inputs == "theta_and_denoised" and self.model.base != "standard":
            raise ValueError(
                f"model.inputs=theta_and_denoised needs model.base=standard; received model.base={self.model.base}."
            )
        if self.model.inputs == "theta_and_score" and self.model.base == "gaussian":
            raise ValueError("model.inputs=theta_and_score needs another model.base than gaussian.")

    def for_task(self, task: Task) -> NetworkConfig:
        """The same, trained on as many rows as a task says that its data sets have."""
        if task.row_range is None:
            return self
        low, high = task.row_range
        if low == high:
            rows = {"fixed_rows": low, "row_buckets": [low], "bucket_weights": [1.0]}
        elif high <= SMALL_BUCKET:
            rows = {"row_buckets": [high], "bucket_weights": [1.0], "min_rows": low}
        else:
            rows = {"row_buckets": [max(SMALL_BUCKET, low), high], "bucket_weights": [0.85, 0.15], "min_rows": low}
        return dataclasses.replace(self, training=dataclasses.replace(self.training, **rows))

    @property
    def _moves_in_base(self) -> bool:
        """Whether the base is the metric of the moves."""
        return self.model.base in LIKELIHOOD_BASES and self.targets.num_moves > 0


def from_dict(data: dict[str, Any]) -> NetworkConfig:
    """Inverse of ``dataclasses.asdict`` for a stored configuration; unknown keys are an error."""
    parts = {"task": TaskConfig, "model": ModelConfig, "flow": FlowConfig, "targets": TargetsConfig}
    parts["training"] = TrainingConfig
    return NetworkConfig(**{name: kind(**data[name]) for name, kind in parts.items()})
