"""Command lines with files and ``--options``, as overrides that Hydra reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Line(NamedTuple):
    """What the command line of a command looks like that takes files.

    Attributes:
        positions: settings given by position.
        options, switches: by name, those with a value and those without.
        lists: settings that hold several values, separated by commas or, of ``repeated`` ones, given again.
    """

    positions: tuple[str, ...]
    options: dict[str, str]
    switches: tuple[str, ...] = ()
    lists: tuple[str, ...] = ()
    repeated: tuple[str, ...] = ()


LINES = {
    "sample": Line(
        ("file",),
        {
            "--target": "target",
            "--polish": "polish",
            "--net": "net",
            "--task": "program",
            "--draws": "draws",
            "--seed": "seed",
            "--out": "out",
            "--features": "features",
            "--solver-steps": "solver_steps",
        },
        ("--standardize", "--refine"),
        ("features",),
    ),
    "glm": Line(
        ("file", "formula"),
        {
            "--family": "family",
            "--prior": "priors",
            "--offset": "offset",
            "--weights": "weights",
            "--precision": "precision",
            "--trials": "trials",
            "--missing": "missing",
            "--engine": "engine",
            "--draws": "draws",
            "--seed": "seed",
            "--out": "out",
            "--report": "report",
        },
        repeated=("priors",),
    ),
}


def line_overrides(command: str, arguments: Sequence[str]) -> list[str]:
    """``data.csv --target y ...`` as overrides ``file=... target=...``.

    Raises:
        ConfigError: for an unknown option, an option without its value, or too many files.
    """
    from icl_bayes.config import ConfigError

    line = LINES[command]
    overrides, waiting, positions = [], list(arguments), list(line.positions)
    several: dict[str, list[str]] = {}
    while waiting:
        one = waiting.pop(0)
        name, equals, attached = one.partition("=")
        if one in line.switches:
            overrides.append(f"{one.removeprefix('--')}=true")
        elif one == "--cfg":
            overrides.append(one)
        elif name in line.options:
            if not equals and not waiting:
                raise ConfigError(f"{name} needs a value; see icl-bayes {command} --help.")
            value = attached if equals else waiting.pop(0)
            key = line.options[name]
            if key in line.repeated:
                several.setdefault(key, []).append(value)
            elif key in line.lists:
                several.setdefault(key, []).extend(part.strip() for part in value.split(","))
            else:
                overrides.append(f"{key}={quoted(value)}")
        elif one.startswith("-"):
            known = [*line.options, *line.switches]
            raise ConfigError(f"Unknown option {one!r}; options: {', '.join(known)}.")
        elif equals and name.isidentifier() and "~" not in name:
            overrides.append(one)
            positions = [left for left in positions if left != name]
        elif not positions:
            what = "One file at a time" if command == "sample" else "One file and one formula"
            raise ConfigError(f"{what}; received another one, {one!r}.")
        else:
            overrides.append(f"{positions.pop(0)}={quoted(one)}")
    return overrides + [f"{key}=[{','.join(map(quoted, values))}]" for key, values in several.items()]


def quoted(value: str) -> str:
    """A value in quotes, so that nothing in it is taken for grammar; numbers stay numbers."""
    if value.lstrip("-").isdigit():
        return value
    escaped = value.replace("\\'", "\\\\'").replace("'", "\\'")
    return f"'{escaped}'"
