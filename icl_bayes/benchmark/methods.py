"""Names of methods, as given on a command line, to samplers with the labels they are recorded under.

``icl`` is the shipped network (``informed`` in GLMs and mixtures), ``icl/laplace`` another shipped variant,
``icl@2`` the same with two midpoint steps (of the exponential solver, where that is the network's own),
``icl+polish@5`` with five HMC moves from every draw, ``icl+refine`` with whatever repair its certificate asks for.
All other names are those of the baselines.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from icl_bayes.baselines import baseline_names, make_baseline, supports_exact
from icl_bayes.benchmark.cases import Case, Method
from icl_bayes.benchmark.settings import BaselineConfig
from icl_bayes.flow import Solver
from icl_bayes.inference import AmortizedPosterior, NetworkSampler, RefinedSampler, load, shipped_networks
from icl_bayes.inference.network import WEIGHTS
from icl_bayes.tasks import CUSTOM, Task
from icl_bayes.training import CheckpointError, NetworkConfig

DEFAULT_VARIANT = "informed"
VARIANTS = ("informed", "laplace", "gaussian", "exact_start", "joint", "paper")
DEFAULT_POLISH = 5
_NETWORK = re.compile(
    r"icl(?:/(?P<variant>[a-z_]+))?(?:@(?P<steps>\d+))?"
    r"(?:(?P<polish>\+polish(?:@(?P<moves>\d+))?)|(?P<refine>\+refine))?"
)


def method_names() -> list[str]:
    """All names that a list of methods may hold; K stands for a number."""
    return ["icl", "icl/VARIANT", "icl@STEPS", "icl+polish@K", "icl+refine", *baseline_names()]


@dataclass(frozen=True)
class NetworkName:
    """What a method name such as ``icl/laplace@2+polish@5`` asks for; zero where it says nothing."""

    variant: str
    steps: int
    moves: int
    is_refined: bool = False


def parse_network(name: str) -> NetworkName | None:
    """The parts of a network's name; ``None`` for other methods.

    Raises:
        ValueError: for zero steps or moves.
    """
    match = _NETWORK.fullmatch(name)
    if match is None:
        return None
    steps = int(match["steps"]) if match["steps"] else 0
    moves = int(match["moves"] or DEFAULT_POLISH) if match["polish"] else 0
    if (match["steps"] and not steps) or (match["polish"] and not moves):
        raise ValueError(f"Method {name!r}: steps and moves must be at least 1.")
    return NetworkName(match["variant"] or DEFAULT_VARIANT, steps, moves, bool(match["refine"]))


def check_method_names(names: Sequence[str], any_variant: bool = False) -> None:
    """Raise a ValueError that lists the choices unless all names are known.

    Args:
        any_variant: whether variants may be called as one likes, as in a tree of one's own networks.
    """
    patterns = [re.escape(name).replace("@K", r"@\d+") for name in baseline_names()]
    for name in names:
        network = parse_network(name)
        if network is not None and not any_variant and network.variant not in VARIANTS:
            raise ValueError(f"Unknown variant in method {name!r}; choices: {', '.join(VARIANTS)}.")
        if network is None and not any(re.fullmatch(pattern, name) for pattern in patterns):
            raise ValueError(
                f"Unknown method {name!r}; choices: {', '.join(method_names())} "
                f"(VARIANT one of {', '.join(VARIANTS)}; K a number, e.g. parallel_hmc@5)."
            )


def variant_of(config: NetworkConfig) -> str:
    """The protocol's name for how a network was built and trained."""
    model, targets = config.model, config.targets
    sees_score = model.base in ("variational", "modes") and model.inputs == "theta_and_score"
    if model.inputs == "theta_and_denoised" or model.base in ("pilots", "warped") or sees_score:
        return "informed"
    if model.base == "laplace" and model.inputs == "theta":
        return "laplace"
    if model.inputs == "theta_and_score":
        return f"{model.base}+score"
    if model.base == "gaussian":
        return "gaussian"
    return "exact_start" if targets.num_moves else "joint"


def _effort(options: dict[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in options.items())


def baseline_method(name: str, task: Task, settings: BaselineConfig) -> Method:
    """A baseline under its own name; options that differ from the defaults are part of its label."""
    changes = settings.changes(name)
    sampler = make_baseline(name, task, **changes)
    if name.startswith("parallel_hmc@"):
        moves, _, start = name.removeprefix("parallel_hmc@").partition(":")
        effort = " ".join(part for part in (_effort(changes), f"moves={moves}") if part)
        return Method(sampler, "parallel_hmc", f"{start} start" if start else "", solver=effort)
    return Method(sampler, name, solver=_effort(changes))


@dataclass
class MethodRegistry:
    """Methods of every scenario, built once per task so that compiled programs are shared by its cases.

    Attributes:
        names: methods asked for.
        settings: of the baselines.
        networks: directory to take networks from; the shipped ones when empty.
        notes: methods left out of a scenario, and why, in words.
    """

    names: Sequence[str]
    settings: BaselineConfig = field(default_factory=BaselineConfig)
    networks: str = ""
    notes: list[str] = field(default_factory=list)
    _built: dict[Task, list[Method]] = field(default_factory=dict, repr=False)
    _loaded: dict[Path, AmortizedPosterior] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        check_method_names(self.names, any_variant=bool(self.networks))

    def __call__(self, case: Case) -> list[Method]:
        """The methods of a case."""
        assert isinstance(case.task, Task)
        return self.of(case.task)

    def of(self, task: Task) -> list[Method]:
        """The methods that can serve a task; what can't is left out with a note.

        Raises:
            CheckpointError: for a network that can't be loaded.
        """
        if task not in self._built:
            methods: list[Method] = []
            for name in self.names:
                if name == "exact" and not supports_exact(task):
                    self.notes.append(f"{task.name}: there is no exact sampler, so 'exact' is left out")
                    continue
                wanted = parse_network(name)
                if wanted is None:
                    method = baseline_method(name, task, self.settings)
                else:
                    method = self._network_method(wanted, task)
                if method is None:
                    self.notes.append(f"{task.name}: no network of that variant is shipped, so {name!r} is left out")
                elif not any((method.label, method.checkpoint) == (one.label, one.checkpoint) for one in methods):
                    methods.append(method)  # `icl` and `icl@2` may be the same
            self._built[task] = methods
        return self._built[task]

    def _network_method(self, wanted: NetworkName, task: Task) -> Method | None:
        directory = self._directory(wanted, task)
        if directory is None:
            return None
        if directory not in self._loaded:
            self._loaded[directory] = load(directory, task=task if task.name.startswith(f"{CUSTOM}/") else None)
        posterior = self._loaded[directory]
        if posterior.task.name != task.name:
            raise CheckpointError(
                f"{directory} holds a network for {posterior.task.name}, but the scenario is {task.name}. "
                "Ask for that scenario, or point networks= to a tree FAMILY/SCENARIO[/VARIANT] of networks."
            )
        solver = posterior.solver
        if wanted.steps:
            method = "exponential" if solver.method == "exponential" else "midpoint"
            solver = Solver(method, wanted.steps, exponent=solver.exponent)
        sampler = NetworkSampler(posterior, solver, wanted.moves)
        if wanted.is_refined:
            sampler = RefinedSampler(posterior, solver)
        # A folder VARIANT of a tree says what it holds; all others are named by their network.
        is_named = directory.is_relative_to(self._root) and directory.name == wanted.variant
        variant = wanted.variant if is_named else variant_of(posterior.checkpoint.config)
        if wanted.variant not in (DEFAULT_VARIANT, variant):
            raise CheckpointError(
                f"{directory} holds a network of variant {variant!r}; {wanted.variant!r} was asked for."
            )
        if wanted.moves:
            variant += f"+polish@{wanted.moves}"
        if wanted.is_refined:
            variant += "+refine"
        effort = f"{solver.method} steps={solver.num_steps}" if solver.method != "dopri5" else solver.label
        if solver.exponent != 1.0:
            effort += f" exponent={solver.exponent:g}"
        return Method(sampler, "icl", variant, posterior.checkpoint.identity, effort)

    @property
    def _root(self) -> Path:
        return Path(self.networks) if self.networks else WEIGHTS

    def _directory(self, wanted: NetworkName, task: Task) -> Path | None:
        """Where a network lies; ``None`` if no such variant is shipped for this task."""
        root = self._root
        if self.networks and any((root / part / "checkpoint.json").is_file() for part in ("", "network")):
            return root
        home = root / task.name
        candidates = [home / wanted.variant, *([home] if wanted.variant == DEFAULT_VARIANT else [])]
        for directory in candidates:
            if any((directory / part / "checkpoint.json").is_file() for part in ("", "network")):
                return directory
        if self.networks:
            raise CheckpointError(
                f"{root} holds no network of variant {wanted.variant!r} for {task.name}; looked in "
                f"{' and '.join(map(str, candidates))}."
            )
        if not [name for name in shipped_networks() if name == task.name or name.startswith(f"{task.name}/")]:
            family, _, scenario = task.name.partition("/")
            raise CheckpointError(
                f"No network is shipped for {task.name}. Shipped: {', '.join(shipped_networks()) or 'none'}. "
                f"Train one (icl-bayes train family={family} scenario={scenario}) and pass networks=DIRECTORY."
            )
        return None
