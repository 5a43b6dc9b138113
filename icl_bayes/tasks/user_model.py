"""A user's own NumPyro model, read: its arguments, responses, plates, latent sites, and what can't be done with it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from numpyro import handlers
from numpyro.distributions import constraints
from numpyro.primitives import Messenger

from icl_bayes.tasks.enumeration import DiscreteSite, SummedOut, in_plate, require_enumerable
from icl_bayes.types import Array, Dataset

Inputs = Callable[[Array, int], Mapping[str, Any]]
"""``(rng_key, num_rows) -> {argument: array with num_rows rows}``."""
SPECIAL = ("row_mask", "num_rows")
"""Arguments that a model may ask for: which rows exist ``(n,)``, and the length n of the row axis."""


@dataclass(frozen=True)
class UserModel:
    """What there is to know of a model before it becomes a task.

    Attributes:
        program: ``program(dataset)``, rows masked, discrete latent sites summed out.
        inputs: ``(rng_key, row_mask) -> {row name: array}``.
        responses: arguments that it simulates when they are not given.
        latent: its continuous latent sites.
        supports: of every response, ``None`` where it depends on parameters.
        example: a data set simulated from it.
    """

    program: Callable[[Dataset], None]
    inputs: Callable[[Array, Array], dict[str, Array]]
    responses: tuple[str, ...]
    latent: tuple[str, ...]
    supports: dict[str, Any]
    example: Dataset


class ModelError(ValueError):
    """A model that no network can be trained for as it is written."""


class _Adapted(Messenger):
    """Masks rows in the plate over them, and calls responses by the arguments that observe them."""

    def __init__(self, fn: Any, row_mask: Any, plate: str, renamed: Mapping[str, str]) -> None:
        self.row_mask, self.plate, self.renamed = row_mask, plate, renamed
        super().__init__(fn)

    def process_message(self, msg: dict) -> None:
        if msg["type"] != "sample":
            return
        if isinstance(_unwrapped(msg["fn"]), dist.ImproperUniform):
            raise ModelError(
                f"The prior of {msg['name']!r} is improper: it cannot be simulated from, so there is nothing to train "
                "on. Use a wide proper prior."
            )
        msg["name"] = self.renamed.get(msg["name"], msg["name"])
        for frame in msg["cond_indep_stack"]:
            if frame.name == self.plate and msg["name"] in self.renamed.values():
                mask = jnp.reshape(self.row_mask, (-1, *[1] * (-frame.dim - 1)))
                msg["fn"] = msg["fn"].mask(mask)


def read_model(
    model: Callable[..., Any],
    inputs: Inputs | None,
    *,
    rows: str | None,
    num_rows: int,
    has_fixed_rows: bool,
    constants: Mapping[str, float],
) -> UserModel:
    """Check a model and derive what :class:`icl_bayes.tasks.Task` needs from it.

    Raises:
        ValueError: for whatever can't be done, in words.
    """
    name = getattr(model, "__name__", type(model).__name__)
    responses, special = _arguments(name, model, inputs, constants)
    generator = _row_generator(name, inputs)
    filled = {key: jnp.asarray(value, jnp.float32) for key, value in constants.items()}

    def run(dataset: Dataset, plate: str = "", renamed: Mapping[str, str] | None = None) -> None:
        own = {key: dataset.rows.get(key) for key in responses}
        given = {"row_mask": jnp.asarray(dataset.row_mask), "num_rows": dataset.padded_rows}
        arguments = {**dataset.rows, **dataset.constants, **own, **{key: given[key] for key in special}}
        _Adapted(model, dataset.row_mask, plate, renamed or {})(**arguments)

    def unobserved(count: int) -> Dataset:
        mask = jnp.ones(count, bool)
        return Dataset(row_mask=mask, constants=filled, **generator(jax.random.key(0), mask))

    def traced(dataset: Dataset, program: Callable[[Dataset], None] = run) -> dict[str, dict]:
        try:
            return dict(handlers.trace(handlers.seed(program, jax.random.key(1))).get_trace(dataset))
        except ModelError:
            raise
        except (TypeError, ValueError, AssertionError, AttributeError, NotImplementedError) as error:
            raise ValueError(
                f"The model {name!r} could not be run with {dataset!r} and {', '.join(responses)} missing: {error}"
            ) from error

    empty = unobserved(num_rows)
    simulated = traced(empty)
    _require_proper(name, simulated)
    renamed = _response_sites(name, run, traced, empty, simulated, responses, num_rows)
    observed_at = {site: simulated[site] for site in renamed}
    plate = _row_plate(name, rows, observed_at, num_rows, has_own_mask="row_mask" in special, is_fixed=has_fixed_rows)

    def program(dataset: Dataset) -> None:
        run(dataset, plate, renamed)

    values = {argument: simulated[site]["value"] for site, argument in renamed.items()}
    example = jax.tree.map(np.asarray, empty.replace(rows={**empty.rows, **values}))
    latent = {site: message for site, message in _latents(simulated).items() if site not in renamed}
    if not has_fixed_rows:
        _require_fixed_dimension(name, latent, plate, _latents(traced(unobserved(num_rows + 3))))
    discrete = {site: _discrete_site(site, message, plate) for site, message in latent.items() if _is_discrete(message)}
    continuous = tuple(site for site in latent if site not in discrete)
    if not continuous:
        raise ValueError(f"The model {name!r} has no continuous latent site, so there is nothing to infer by a flow.")
    final: Callable[[Dataset], None] = program
    if discrete:
        require_enumerable(discrete)
        has_shared = any(not in_plate(message, plate) for message in observed_at.values())
        final = SummedOut(program, discrete, responses, plate, has_shared=has_shared)
        final.require_separable(example)
    supports = {argument: _plain_support(simulated[site]["fn"]) for site, argument in renamed.items()}
    return UserModel(final, generator, responses, continuous, supports, example)


def _arguments(
    name: str, model: Callable[..., Any], inputs: Inputs | None, constants: Mapping[str, float]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the responses, and of the special arguments the model asks for."""
    parameters = inspect.signature(model).parameters
    variadic = [key for key, one in parameters.items() if one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]
    if variadic:
        raise ValueError(f"The model {name!r} must name its arguments; it takes *{variadic[0]}.")
    given = set(constants)
    if inputs is not None:
        shapes = jax.eval_shape(lambda: dict(inputs(jax.random.key(0), 4)))
        unknown = sorted(set(shapes) - set(parameters))
        if unknown:
            raise ValueError(f"inputs returns {unknown}, which the model {name!r} does not take: {list(parameters)}.")
        given |= set(shapes)
    unknown = sorted(set(constants) - set(parameters))
    if unknown:
        raise ValueError(f"constants has {unknown}, which the model {name!r} does not take: {list(parameters)}.")
    special = tuple(key for key in parameters if key in SPECIAL and key not in given)
    others = [key for key in parameters if key not in given and key not in special]
    responses = tuple(key for key in others if parameters[key].default is None)
    missing = [key for key in others if parameters[key].default is inspect.Parameter.empty]
    if missing:
        raise ValueError(
            f"The model {name!r} takes {missing}, and nothing says what they are. Covariates come from "
            "inputs=lambda rng_key, num_rows: {...}, positive prior constants from constants={...}; what the model "
            "simulates has the default None (def model(x, y=None))."
        )
    if not responses:
        raise ValueError(
            f"The model {name!r} has no response: give what it observes the default None, as in "
            "def model(x, y=None): ... numpyro.sample('y', ..., obs=y)."
        )
    return responses, special


def _row_generator(name: str, inputs: Inputs | None) -> Callable[[Array, Array], dict[str, Array]]:
    def generate(rng_key: Array, row_mask: Array) -> dict[str, Array]:
        if inputs is None:
            return {}
        num_rows = row_mask.shape[0]
        found = {key: jnp.asarray(value) for key, value in inputs(rng_key, num_rows).items()}
        wrong = {key: value.shape for key, value in found.items() if value.shape[:1] != (num_rows,) or value.ndim > 2}
        if wrong:
            raise ValueError(
                f"inputs of the model {name!r} must return arrays (num_rows,) or (num_rows, p), here with "
                f"num_rows={num_rows}; received shapes {wrong}. What belongs to groups of rows goes in by row."
            )
        return found

    return generate


def _latents(trace: Mapping[str, dict]) -> dict[str, dict]:
    return {
        site: message for site, message in trace.items() if message["type"] == "sample" and not message["is_observed"]
    }


def _is_discrete(message: dict) -> bool:
    return bool(message["fn"].support.is_discrete)


def _require_proper(name: str, simulated: Mapping[str, dict]) -> None:
    """Refuse what has no prior, or no simulation."""
    for site, message in simulated.items():
        if message["type"] == "param":
            raise ValueError(
                f"{site!r} of the model {name!r} is a numpyro.param, which has no prior; make it a sample site, or a "
                "constant."
            )
        if message["type"] == "plate" and message["args"] and message["args"][0] != len(message["value"]):
            raise ValueError(
                f"The plate {site!r} of the model {name!r} subsamples; the posterior given all rows is what a network "
                "learns, so leave out subsample_size."
            )
        if message["type"] != "sample":
            continue
        fn = _unwrapped(message["fn"])
        if isinstance(fn, dist.Unit):
            raise ValueError(
                f"The factor {site!r} of the model {name!r} changes its density but not its simulations, so data and "
                "posterior would not belong together. Write it as a sample site with obs=."
            )
        if message["is_observed"]:
            raise ValueError(
                f"The site {site!r} of the model {name!r} is observed even when the responses are missing, so it "
                "cannot be simulated. Pass what it observes as an argument with the default None."
            )


def _response_sites(
    name: str,
    run: Callable[[Dataset], None],
    traced: Callable[..., dict[str, dict]],
    empty: Dataset,
    simulated: Mapping[str, dict],
    responses: tuple[str, ...],
    num_rows: int,
) -> dict[str, str]:
    """Which site each response argument is observed at, ``{site: argument}``."""
    found: dict[str, str] = {}
    shapes = [message["value"] for message in _latents(simulated).values()]
    for argument in responses:
        candidates = [simulated[argument]["value"]] if argument in _latents(simulated) else shapes
        for value in candidates:
            if jnp.shape(value)[:1] != (num_rows,):
                continue
            try:
                tried = traced(empty.replace(rows={**empty.rows, argument: value}), run)
            except ValueError:
                continue  # of another shape than this response has
            sites = [s for s, m in tried.items() if m["type"] == "sample" and m["is_observed"]]
            if len(sites) == 1 and jnp.shape(tried[sites[0]]["value"]) == jnp.shape(simulated[sites[0]]["value"]):
                found[sites[0]] = argument
                break
        else:
            raise ValueError(
                f"No site of the model {name!r} with a leading axis over its {num_rows} rows is observed by the "
                f"argument {argument!r}; expected something like numpyro.sample({argument!r}, ..., obs={argument})."
            )
    return found


def _row_plate(
    name: str, rows: str | None, observed: Mapping[str, dict], num_rows: int, *, has_own_mask: bool, is_fixed: bool
) -> str:
    """The plate over rows; empty where the model masks rows itself, or their number is fixed and there is none."""
    plates = [{frame.name for frame in m["cond_indep_stack"] if frame.size == num_rows} for m in observed.values()]
    shared = set.intersection(*plates)
    if rows is not None:
        if rows not in shared:
            raise ValueError(
                f"The responses of the model {name!r} do not all lie in a plate {rows!r} of size num_rows; plates of "
                f"that size around all of them: {sorted(shared) or 'none'}."
            )
        return rows
    if has_own_mask:
        return ""
    if len(shared) == 1:
        return shared.pop()
    if is_fixed:
        return ""
    if shared:
        raise ValueError(f"Which plate of the model {name!r} is over rows? Name it: rows={sorted(shared)[0]!r}.")
    raise ValueError(
        f"The responses of the model {name!r} do not lie in a plate over rows, so data sets of different lengths "
        "cannot be padded. Wrap them in numpyro.plate('rows', num_rows); or take an argument row_mask and apply "
        "numpyro.handlers.mask(mask=row_mask) yourself; or fix the number of rows (num_rows=50)."
    )


def _require_fixed_dimension(name: str, latent: Mapping[str, dict], plate: str, longer: Mapping[str, dict]) -> None:
    for site, message in latent.items():
        if _is_discrete(message) and in_plate(message, plate):
            continue
        if site not in longer or jnp.shape(message["value"]) != jnp.shape(longer[site]["value"]):
            raise ValueError(
                f"The latent site {site!r} of the model {name!r} changes its shape with the number of rows, so theta "
                "has no fixed length. Integrate it out, or fix the number of rows (num_rows=8 instead of a range)."
            )


def _discrete_site(site: str, message: dict, plate: str) -> DiscreteSite:
    fn = _unwrapped(message["fn"])
    try:
        values = np.asarray(fn.enumerate_support(expand=False)).ravel()
    except NotImplementedError as error:
        raise ValueError(
            f"The discrete site {site!r} ({type(fn).__name__}) has no finite list of values, so it cannot be summed "
            "out; bound it (Categorical, DiscreteUniform, Binomial), or integrate it out by hand."
        ) from error
    in_rows = bool(plate) and in_plate(message, plate)
    shape = tuple(jnp.shape(message["value"]))
    if in_rows and len(shape) > 1:
        raise ValueError(
            f"The discrete site {site!r} of shape {shape} has further axes beside the rows'; sum it out by hand "
            "(numpyro.distributions.MixtureSameFamily)."
        )
    return DiscreteSite(values, shape, in_rows)


def _unwrapped(fn: Any) -> Any:
    while isinstance(fn, (dist.Independent, dist.ExpandedDistribution, dist.MaskedDistribution)):
        fn = fn.base_dist
    return fn


_PLAIN_SUPPORTS = (
    constraints.real,
    constraints.positive,
    constraints.nonnegative,
    constraints.unit_interval,
    constraints.boolean,
    constraints.nonnegative_integer,
    constraints.positive_integer,
)


def _plain_support(fn: Any) -> Any | None:
    """The support of an observation law, unless it depends on parameters."""
    support = _unwrapped(fn).support
    return support if any(support is one for one in _PLAIN_SUPPORTS) else None
