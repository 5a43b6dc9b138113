"""Mistakes in a command line, explained: what was given, what there is, what was probably meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from icl_bayes.config.files import choices, groups_of

HYDRA_GROUPS = ("hydra/",)
_OVERRIDE = re.compile(r"^(?P<sign>\+\+|\+|~)?(?P<key>[A-Za-z_][\w./-]*)(?:@[\w.:/-]*)?(?:=(?P<value>.*))?$", re.DOTALL)


class ConfigError(ValueError):
    """A command line that can't be composed; the message says why and lists the choices."""


def suggest(given: str, known: Iterable[str]) -> str:
    """``Did you mean 'x'? ``, or nothing when no name is close."""
    close = difflib.get_close_matches(given, list(known), n=1, cutoff=0.6)
    return f"Did you mean {close[0]!r}? " if close else ""


def split_override(text: str) -> tuple[str, str, str]:
    """Sign, key and value of an override such as ``training.num_steps=100``.

    Raises:
        ConfigError: for text that is no override.
    """
    match = _OVERRIDE.match(text)
    if match is None or (match["value"] is None and match["sign"] != "~"):
        raise ConfigError(f"{text!r} is no setting; write NAME=VALUE, for example seed=7.")
    return match["sign"] or "", match["key"], match["value"] or ""


def check_groups(command: str, overrides: Sequence[str]) -> None:
    """Raise a ConfigError that lists the choices if a group is set to something there is not."""
    groups = groups_of(command)
    for text in overrides:
        _, key, value = split_override(text)
        if key not in groups:
            continue
        known = choices(key)
        for one in (part.strip() for part in value.split(",")):  # a sweep names several
            if one not in known:
                raise ConfigError(
                    f"There is no {key} {one!r}. {suggest(one, known)}Choices of {key}: {', '.join(known)}."
                )


def is_group(command: str, text: str) -> bool:
    """Whether an override chooses an option of a group (or belongs to Hydra itself)."""
    key = split_override(text)[1]
    return key in groups_of(command) or key.startswith((*HYDRA_GROUPS, "hydra."))


def check_keys(command: str, config: DictConfig, overrides: Sequence[str]) -> None:
    """Raise a ConfigError that lists the neighbours if an override names a setting there is not.

    Args:
        config: composed without the overrides, or with the groups only.
    """
    for text in overrides:
        if is_group(command, text):
            continue
        _check_key(command, config, split_override(text)[1])


def _check_key(command: str, config: DictConfig, key: str) -> None:
    node: Any = config
    seen: list[str] = []
    for part in key.split("."):
        if not isinstance(node, DictConfig):
            raise ConfigError(f"The setting {'.'.join(seen)!r} has no parts; received {key!r}.")
        known = [str(name) for name in node]
        if part not in known:  # not `in node`, which passes over settings without a default
            home = f"under {'.'.join(seen)}" if seen else f"of {command}"
            groups = [] if seen else [name for name in groups_of(command) if name not in known]
            everywhere = [*(".".join([*seen, name]) for name in known), *groups, *_all_keys(config)]
            also = f"; groups: {', '.join(groups_of(command))}" if groups_of(command) and not seen else ""
            raise ConfigError(
                f"There is no setting {key!r}. {suggest(key, everywhere)}Settings {home}: {', '.join(known)}{also}."
            )
        seen.append(part)
        node = node._get_node(part)


def _all_keys(config: DictConfig, prefix: str = "") -> list[str]:
    keys = []
    for name in config:
        node = config._get_node(name)
        keys.append(f"{prefix}{name}")
        if isinstance(node, DictConfig):
            keys += _all_keys(node, f"{prefix}{name}.")
    return keys


def explain(error: Exception) -> str:
    """What Hydra or OmegaConf complain about, in as few lines as say it all."""
    lines: list[str] = []
    cause: BaseException | None = error
    while cause is not None:
        for line in str(cause).splitlines():
            text = line.strip()
            if text.startswith("Config search path"):
                break
            if text and text not in lines and not text.startswith(("object_type=", "reference_type=", "See https:")):
                lines.append(text)
        cause = cause.__cause__
    return "\n".join(lines)


def missing_keys(config: DictConfig, prefix: str = "") -> list[str]:
    """Settings that have no default and were not given."""
    found = []
    for name in config:
        key, node = f"{prefix}{name}", config._get_node(name)
        if isinstance(node, DictConfig):
            found += missing_keys(node, f"{key}.")
        elif not OmegaConf.is_interpolation(config, str(name)) and OmegaConf.is_missing(config, name):
            found.append(key)
    return found
