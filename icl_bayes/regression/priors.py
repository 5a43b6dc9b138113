"""Priors as users state them, ``"normal(0, 2.5)"``, and the defaults where they state none."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from icl_bayes.tasks.coefficient_priors import DEFAULT_SHAPE, KINDS, POSITIVE, code_of
from icl_bayes.tasks.regression import FAMILIES, RESPONSES, prior_constants

ALL_COEFFICIENTS = "coefficients"
_FORMS = {
    "normal": ("loc", "scale"),
    "student_t": ("shape", "loc", "scale"),
    "laplace": ("loc", "scale"),
    "half_normal": ("scale",),
    "half_student_t": ("shape", "scale"),
    "gamma": ("shape", "rate"),
    "exponential": ("rate",),
    "root_inverse_gamma": ("shape", "scale"),
}
_TEXT = re.compile(r"^\s*([a-z_]+)\s*\(([^()]*)\)\s*$")
AUTOSCALE = 2.5
"""Standard deviations of the response (of the linear predictor: units) per standard deviation of a column."""


@dataclass(frozen=True)
class Prior:
    """A prior law of one coefficient.

    Attributes:
        kind: ``normal``, ``student_t``, ``laplace``; positive ones are ``half_normal``, ``half_student_t``, ``gamma``
            and ``root_inverse_gamma``, whose square is inverse gamma with that shape and the scale ``scale^2``.
        loc: location, of kinds that are not positive.
        scale: of ``gamma`` the reciprocal rate.
        shape: degrees of freedom, or concentration of ``gamma``.
    """

    kind: str
    loc: float = 0.0
    scale: float = 1.0
    shape: float = DEFAULT_SHAPE

    def __post_init__(self) -> None:
        code_of(self.kind)
        numbers = {"loc": self.loc, "scale": self.scale, "shape": self.shape}
        if not all(np.isfinite(value) for value in numbers.values()) or self.scale <= 0.0 or self.shape <= 0.0:
            raise ValueError(f"A prior has a finite location, and positive scale and shape; received {numbers}.")

    @property
    def is_positive(self) -> bool:
        return self.kind in POSITIVE

    def __str__(self) -> str:
        values = {"shape": self.shape, "loc": self.loc, "scale": self.scale, "rate": 1.0 / self.scale}
        return f"{self.kind}({', '.join(f'{values[name]:.4g}' for name in _FORMS[self.kind])})"

    @classmethod
    def of(cls, stated: str | Prior) -> Prior:
        """A prior from text such as ``student_t(3, 0, 2.5)``.

        Raises:
            ValueError: for text that is none, listing the forms.
        """
        if isinstance(stated, Prior):
            return stated
        forms = ", ".join(f"{kind}({', '.join(names)})" for kind, names in _FORMS.items())
        match = _TEXT.match(stated) if isinstance(stated, str) else None
        if match is None or match[1] not in _FORMS:
            raise ValueError(f"{stated!r} is no prior; forms: {forms}.")
        kind, names = match[1], _FORMS[match[1]]
        try:
            values = [float(part) for part in match[2].split(",")]
        except ValueError as error:
            raise ValueError(f"{stated!r} is no prior: {error}; forms: {forms}.") from error
        if len(values) != len(names):
            raise ValueError(f"{stated!r} takes {len(names)} number(s), {kind}({', '.join(names)}).")
        given = dict(zip(names, values, strict=True))
        if "rate" in given:
            rate = given.pop("rate")
            if rate <= 0.0:
                raise ValueError(f"{stated!r}: a rate is positive.")
            given["scale"] = 1.0 / rate
        if kind == "exponential":
            return cls("gamma", shape=1.0, scale=given["scale"])
        return cls(kind, **given)


@dataclass(frozen=True)
class RegressionPriors:
    """The priors of a regression, in the order of its columns.

    Attributes:
        intercept: ``None`` for a model without.
        coefficients: one per column of the design.
        dispersion: ``None`` for families without.
    """

    intercept: Prior | None
    coefficients: tuple[Prior, ...]
    dispersion: Prior | None

    def constants(self) -> dict[str, np.ndarray]:
        """As the task reads them."""
        found: dict[str, np.ndarray] = {}
        for name, one in (("intercept", self.intercept), ("dispersion", self.dispersion)):
            if one is not None:
                found |= prior_constants(name, code_of(one.kind), one.loc, one.scale, one.shape)
        if self.coefficients:
            columns = [(code_of(one.kind), one.loc, one.scale, one.shape) for one in self.coefficients]
            found |= prior_constants("beta", *np.asarray(columns).T)
        return found


def priors_of(constants: Mapping[str, Any], num_columns: int) -> RegressionPriors:
    """Back from what :meth:`RegressionPriors.constants` made of them."""

    def one(name: str, index: int | None = None) -> Prior | None:
        if f"{name}_kind" not in constants:
            return None
        parts = [np.asarray(constants[f"{name}_{part}"], float) for part in ("kind", "loc", "scale", "shape")]
        kind, loc, scale, shape = (float(part if index is None else part[index]) for part in parts)
        return Prior(KINDS[int(kind)], loc, scale, shape)

    coefficients = [one("beta", index) for index in range(num_columns)]
    return RegressionPriors(one("intercept"), tuple(filter(None, coefficients)), one("dispersion"))


def default_priors(
    family: str, x: np.ndarray, y: np.ndarray, offset: np.ndarray, *, intercept: bool
) -> RegressionPriors:
    """Weakly informative priors on the scale of the data.

    Coefficients are normal about 0 with standard deviation 2.5 times that of the response (of the linear predictor, 1)
    per standard deviation of the column. The intercept is normal about the mean response on the scale of the linear
    predictor; its variance allows for columns whose mean is far from zero. ``sigma`` is half Student t with 3 degrees
    of freedom and the scale of the response; overdispersion and dispersion are half-normal with scale 1.
    """
    unit, center = 1.0, 0.0
    if family == "gaussian":
        unit = float(np.std(y)) or 1.0
        center = float(np.mean(y - offset))
    elif FAMILIES[family].link == "log":
        center = float(np.log(max(np.mean(y), 1e-6)) - np.mean(offset))
    spread = np.nanstd(x, axis=0)  # of the observed cells
    spread = np.where(spread > 0.0, spread, np.maximum(np.nanmax(np.abs(x), axis=0, initial=0.0), 1e-12))
    scales = AUTOSCALE * unit / spread
    far = float(np.sum((scales * np.nanmean(x, axis=0)) ** 2))
    located = Prior("normal", center, float(np.sqrt((AUTOSCALE * unit) ** 2 + far)))
    dispersion = {"sigma": Prior("half_student_t", 0.0, unit, 3.0), "": None}.get(
        FAMILIES[family].dispersion, Prior("half_normal")
    )
    coefficients = tuple(Prior("normal", 0.0, float(scale)) for scale in scales)
    return RegressionPriors(located if intercept else None, coefficients, dispersion)


def stated_priors(
    stated: Mapping[str, str | Prior] | None, defaults: RegressionPriors, columns: Sequence[str], family: str
) -> RegressionPriors:
    """The defaults with what a user states in their place.

    Args:
        stated: by column, ``Intercept``, ``coefficients`` (all columns not named) or the dispersion's name.

    Raises:
        ValueError: for names that the model does not have, or a dispersion that may be negative.
    """
    dispersion = RESPONSES[family].dispersion
    given = {name: Prior.of(one) for name, one in (stated or {}).items()}
    known = [*columns, ALL_COEFFICIENTS]
    known += ["Intercept"] * (defaults.intercept is not None) + [dispersion] * bool(dispersion)
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise ValueError(f"priors names {unknown}, which the model does not have; it has {known}.")
    if dispersion in given and not given[dispersion].is_positive:
        raise ValueError(
            f"The prior of {dispersion} must be positive ({', '.join(POSITIVE)}); received {given[dispersion]}."
        )
    general = given.get(ALL_COEFFICIENTS)
    coefficients = tuple(
        given.get(name, general or own) for name, own in zip(columns, defaults.coefficients, strict=True)
    )
    intercept = defaults.intercept and given.get("Intercept", defaults.intercept)
    return RegressionPriors(intercept, coefficients, given.get(dispersion, defaults.dispersion))
