"""Settings of an evaluation, as plain data (Hydra composes them in ``icl_bayes.config``)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from icl_bayes.benchmark.scenario_names import as_list, scenarios_of
from icl_bayes.evaluation.two_sample import METRICS, OTHER_METRICS

SOURCES = ("synthetic", "bundled", "openml336", "csv")
TEST_SEED = 10_000
"""Seeds from here on are test seeds; smaller ones are for choosing settings."""


@dataclass(frozen=True)
class DataConfig:
    """Which data sets methods are scored on.

    Attributes:
        source: ``synthetic`` (simulated), ``bundled`` or ``openml336`` (real tables), or ``csv``.
        covariates: covariate prior of simulated data sets.
        tables: names of real tables; all that serve the scenario when empty.
        include_derived: also take real tables from which a response has to be derived.
        path, target, features: the file, its response and its features (all when empty), for ``csv``.
        cache_dir: where fetched tables are kept (``openml336``); empty for the usual place.
    """

    source: str = "synthetic"
    covariates: str = "tabular"
    tables: list[str] = field(default_factory=list)
    include_derived: bool = True
    path: str = ""
    target: str = ""
    features: list[str] = field(default_factory=list)
    cache_dir: str = ""

    def __post_init__(self) -> None:
        if self.source not in SOURCES:
            raise ValueError(f"data.source must be one of {', '.join(SOURCES)}; received {self.source!r}.")
        if self.source == "csv" and not (self.path and self.target):
            raise ValueError("data=csv needs data.path=FILE and data.target=COLUMN.")

    @property
    def split(self) -> str:
        """The split under which the data sets are recorded."""
        return "synthetic" if self.source == "synthetic" else "real"


@dataclass(frozen=True)
class NutsOptions:
    """Options of ``nuts`` and ``nuts_jit``, see :class:`icl_bayes.baselines.NutsSampler`."""

    num_warmup: int = 500
    num_chains: int = 1
    thinning: int = 1
    target_accept: float = 0.8
    max_tree_depth: int = 10
    dense_mass: bool = False
    start: str = "uniform"


@dataclass(frozen=True)
class VariationalOptions:
    """Options of the ``vi_*`` methods, see :class:`icl_bayes.baselines.VariationalSampler`."""

    num_steps: int = 2000
    learning_rate: float = 0.0


@dataclass(frozen=True)
class ParallelHmcOptions:
    """Options of ``parallel_hmc@K``, see :class:`icl_bayes.baselines.ParallelHmcSampler`."""

    num_steps: int = 0
    step_size: float = 0.0
    jitter: float = 0.2


@dataclass(frozen=True)
class BaselineConfig:
    """Settings of the rivals, by kind."""

    nuts: NutsOptions = field(default_factory=NutsOptions)
    vi: VariationalOptions = field(default_factory=VariationalOptions)
    parallel_hmc: ParallelHmcOptions = field(default_factory=ParallelHmcOptions)

    def changes(self, name: str) -> dict[str, Any]:
        """Options of the baseline called ``name`` that differ from the defaults."""
        kinds = {"nuts": self.nuts, "nuts_jit": self.nuts}
        options = kinds.get(name)
        if options is None and name.startswith("vi_"):
            options = self.vi
        if options is None and name.startswith("parallel_hmc"):
            options = self.parallel_hmc
        if options is None:
            return {}
        default = type(options)()
        return {
            item.name: getattr(options, item.name)
            for item in fields(options)
            if getattr(options, item.name) != getattr(default, item.name)
        }


@dataclass(frozen=True)
class EvaluationConfig:
    """How draws are scored.

    Attributes:
        num_draws: draws of each method, compared with as many of the reference.
        metrics: which scores.
        workers: scoring processes.
        keep_draws: keep the draws of every cell and show their marginals in the report.
        retry_failed: try cells again that are on file as failed.
        overlap: score while methods are sampled; faster, but it falsifies seconds on few cores.
        num_particles: of each run of tempered SMC, where that gives the reference. More help where runs disagree.
    """

    num_draws: int = 1000
    metrics: list[str] = field(default_factory=lambda: list(METRICS))
    workers: int = 2
    keep_draws: bool = False
    retry_failed: bool = False
    overlap: bool = False
    num_particles: int = 2000

    def __post_init__(self) -> None:
        known = METRICS + OTHER_METRICS
        if not self.metrics or not set(self.metrics) <= set(known):
            raise ValueError(f"evaluation.metrics must be some of {', '.join(known)}; received {self.metrics}.")
        if self.num_particles < 2:
            raise ValueError(f"evaluation.num_particles must be at least 2; received {self.num_particles}.")
        if self.num_draws < 10 or self.workers < 0:
            raise ValueError(
                "evaluation.num_draws must be at least 10 and evaluation.workers at least 0; received "
                f"{self.num_draws} and {self.workers}."
            )


@dataclass(frozen=True)
class EvaluationSettings:
    """Everything that ``icl-bayes evaluate`` needs.

    Attributes:
        family: of tasks.
        scenario: one, a list, or ``all``.
        methods: names, see :func:`icl_bayes.benchmark.methods.method_names`.
        num_datasets: data sets per scenario; for real tables at most as many as serve it, 0 for all.
        num_rows, num_columns: n and p of every data set; 0 for the paper's. In factor analysis the scenario fixes p.
        seed: test seed.
        networks: directory to take networks from instead of the shipped ones: one network or
            training run, or a tree ``glm/5/VARIANT`` like that of the shipped weights.
        out: directory of everything that is written.
        data, baseline, evaluation: see there.
    """

    family: str = "glm"
    scenario: Any = "all"
    methods: Any = field(default_factory=lambda: ["icl", "laplace", "parallel_hmc@2", "vi_full", "nuts"])
    num_datasets: int = 8
    num_rows: int = 0
    num_columns: int = 0
    seed: int = TEST_SEED
    networks: str = ""
    out: str = "runs/evaluation"
    data: DataConfig = field(default_factory=DataConfig)
    baseline: BaselineConfig = field(default_factory=BaselineConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)

    def __post_init__(self) -> None:
        if self.num_datasets < 0 or (self.num_datasets == 0 and self.data.source == "synthetic"):
            raise ValueError(
                f"num_datasets must be at least 1 (0 stands for all real tables); received {self.num_datasets}."
            )
        if self.num_rows < 0 or self.num_rows == 1 or self.num_columns < 0 or self.seed < 0:
            raise ValueError(
                "num_rows must be at least 2 (or 0, as in the paper), num_columns and seed at least 0; received "
                f"{self.num_rows}, {self.num_columns} and {self.seed}."
            )
        if not as_list(self.methods):
            raise ValueError("methods is empty; name at least one, e.g. 'methods=[icl,laplace]'.")

    @property
    def scenarios(self) -> list[str]:
        """The scenarios asked for, checked against the family's.

        Raises:
            ValueError: for an unknown family or scenario, listing the choices.
        """
        return scenarios_of(self.family, self.scenario)

    @property
    def method_list(self) -> list[str]:
        """The methods asked for, in order."""
        return [str(name) for name in as_list(self.methods)]

    def as_dict(self) -> dict[str, Any]:
        """Plain nested values, to be kept beside the results; where those are goes without saying."""
        return {name: value for name, value in asdict(self).items() if name != "out"}


ALL_METHODS = (
    "icl",
    "icl/laplace",
    "icl/exact_start",
    "icl/joint",
    "icl/paper",
    "icl+polish",
    "exact",
    "laplace",
    "map",
    "vi_diagonal",
    "vi_full",
    "vi_structured",
    "vi_iaf",
    "nuts",
    "nuts_jit",
    "parallel_hmc@0",
    "parallel_hmc@1",
    "parallel_hmc@2",
    "parallel_hmc@5",
    "parallel_hmc@20",
)
"""Everything there is to compare; what doesn't exist for a scenario is left out with a note."""


@dataclass(frozen=True)
class ReproduceSettings:
    """Everything that ``icl-bayes reproduce`` needs.

    Attributes:
        table: number of a table of the paper, see :data:`icl_bayes.benchmark.reproduce.PAPER_TABLES`, ``ood`` or
            ``sbibm``.
        family: of tasks, for ``ood``.
        preset_name: name of the preset, which is part of the directory's.
        num_datasets: simulated data sets per scenario, or observations of ``sbibm``.
        num_tables: real data sets per scenario, 0 for every table that serves it.
        methods: names of methods.
        scenario: those of the table when ``all``.
        real: where real tables come from, ``bundled`` or ``openml336`` (the paper's).
        cache_dir: see :class:`DataConfig`; of ``sbibm`` the folder of its tasks, if it is not installed.
        seed, networks, out, baseline, evaluation: see :class:`EvaluationSettings`.
    """

    table: Any
    family: str = "glm"
    preset_name: str = "quick"
    num_datasets: int = 1
    num_tables: int = 1
    methods: Any = field(default_factory=lambda: list(ALL_METHODS))
    scenario: Any = "all"
    real: str = "bundled"
    cache_dir: str = ""
    seed: int = TEST_SEED
    networks: str = ""
    out: str = "runs/reproduce"
    baseline: BaselineConfig = field(default_factory=BaselineConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)

    def __post_init__(self) -> None:
        if self.real not in ("bundled", "openml336"):
            raise ValueError(f"real must be bundled or openml336; received {self.real!r}.")
        if self.num_datasets < 1 or self.num_tables < 0:
            raise ValueError(
                f"num_datasets must be at least 1 and num_tables at least 0; received {self.num_datasets} and "
                f"{self.num_tables}."
            )


@dataclass(frozen=True)
class CalibrationSettings:
    """Everything that ``icl-bayes calibrate`` needs.

    Attributes:
        family: of tasks.
        scenario: one, a list, or ``all``.
        num_datasets: simulated data sets per scenario.
        num_draws: posterior draws of each, among which the truth is ranked.
        num_rows: of every data set, by default the paper's.
        polish: HMC moves from every draw.
        refine: test what certificates let pass, not raw draws.
        narrow: factor by which draws are shrunk about their mean, above 1 stretched; any but 1 is a control, which has
            to fail.
        level: probability with which a scenario fails one of its tests by chance.
        divergence_datasets: of how many data sets densities are computed, for the sum of both divergences; 0 for none.
        seed, networks, out: see :class:`EvaluationSettings`.
    """

    family: str = "glm"
    scenario: Any = "all"
    num_datasets: int = 2000
    num_draws: int = 200
    num_rows: int = 0
    polish: int = 0
    refine: bool = False
    narrow: float = 1.0
    level: float = 0.01
    divergence_datasets: int = 0
    seed: int = TEST_SEED
    networks: str = ""
    out: str = "runs/calibration"

    def __post_init__(self) -> None:
        if self.num_datasets < 20 or self.num_draws < 20:
            raise ValueError(
                "Calibration takes at least 20 data sets and 20 draws; received "
                f"num_datasets={self.num_datasets}, num_draws={self.num_draws}."
            )
        if not 0.0 < self.narrow <= 2.0 or not 0.0 < self.level < 1.0:
            raise ValueError(
                "narrow must be positive and at most 2, level between 0 and 1; received "
                f"narrow={self.narrow}, level={self.level}."
            )
        if self.divergence_datasets == 1 or not 0 <= self.divergence_datasets <= self.num_datasets:
            raise ValueError(
                f"divergence_datasets must be 0 or 2 to num_datasets={self.num_datasets}; received "
                f"{self.divergence_datasets}."
            )
        if self.polish < 0 or (self.polish and self.refine):
            raise ValueError("polish must not be negative, and polish and refine exclude each other.")

    @property
    def scenarios(self) -> list[str]:
        return scenarios_of(self.family, self.scenario)

    @property
    def draws_label(self) -> str:
        """Which draws are tested, as recorded."""
        if self.refine:
            return "refined"
        return f"polish@{self.polish}" if self.polish else "raw"

    @property
    def suffix(self) -> str:
        """Of file names, for controls."""
        return "" if self.narrow == 1.0 else f"-narrow-{self.narrow:g}"


DEMO_SCENARIOS: dict[str, list[int]] = {"glm": [1, 5, 6], "fa": [1, 3, 4], "efa": [2], "gmm": [1, 2, 4]}
"""Scenarios that a first look shows."""


@dataclass(frozen=True)
class DemoSettings:
    """Everything that ``icl-bayes demo`` needs.

    Attributes:
        family: of tasks.
        scenario: those shown; by default :data:`DEMO_SCENARIOS` of the family.
        tables_real, tables_binary, tables_positive: bundled tables for the three kinds of response.
        tables_features: bundled tables for models without response.
        num_datasets: tables for each scenario, 0 for all; the next scenario with the same kind of response begins
            after them.
        methods: names of methods.
        metrics: which scores.
        workers: scoring processes.
        seed: decides the rows taken from each table.
        networks, out, baseline: see :class:`EvaluationSettings`.
    """

    family: str = "glm"
    scenario: Any = "few"
    tables_real: list[str] = field(default_factory=lambda: ["diabetes", "concrete"])
    tables_binary: list[str] = field(default_factory=lambda: ["breast_cancer", "mammographic"])
    tables_positive: list[str] = field(default_factory=lambda: ["real_estate", "abalone"])
    tables_features: list[str] = field(default_factory=lambda: ["skillcraft", "wine_white", "communities"])
    num_datasets: int = 1
    methods: Any = field(default_factory=lambda: ["icl", "nuts", "laplace", "vi_full"])
    metrics: list[str] = field(default_factory=lambda: ["c2st", "mmd", "w2"])
    workers: int = 2
    seed: int = TEST_SEED
    networks: str = ""
    out: str = "runs/demo"
    baseline: BaselineConfig = field(default_factory=BaselineConfig)
