"""From a command and its overrides to settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from icl_bayes.config.errors import (
    ConfigError,
    check_groups,
    check_keys,
    explain,
    is_group,
    missing_keys,
    split_override,
)
from icl_bayes.config.files import COMMANDS, config_dir

SHORT_FORMS = {
    "train": {
        "family": "task.family",
        "scenario": "task.scenario",
        "covariates": "task.covariates",
        "num_steps": "training.num_steps",
        "seed": "training.seed",
    },
}
"""Short names of settings deeper down, by command."""


def expand_short_forms(command: str, overrides: Sequence[str]) -> list[str]:
    """Overrides with short names replaced, e.g. ``scenario=5`` by ``task.scenario=5``.

    ``task=module:name``, a task of one's own, becomes what each command calls it.

    Raises:
        ConfigError: for text that is no override.
    """
    forms = SHORT_FORMS.get(command, {})
    expanded = []
    names_out = any(split_override(text)[1] == "out" for text in overrides)
    for text in overrides:
        _, key, value = split_override(text)
        if key == "task" and ":" in value:
            expanded += _own_task(command, value.strip("'\""), names_out=names_out)
            continue
        expanded.append(text.replace(key, forms[key], 1) if key in forms else text)
    return expanded


def _own_task(command: str, address: str, *, names_out: bool) -> list[str]:
    if command == "sample":
        return [f"program='{address}'"]
    if command != "train":
        return ["family=custom", f"scenario='{address}'"]
    out = [] if names_out else [f"out=runs/{address.rpartition(':')[2]}-${{variant}}"]
    return ["task=custom", f"task.program='{address}'", *out]


def compose_raw(command: str, overrides: Sequence[str] = ()) -> DictConfig:
    """The composed configuration, before conversion.

    Raises:
        ConfigError: for anything in the overrides that does not exist or does not fit.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from icl_bayes.config.schemas import register

    if command not in COMMANDS:
        raise ConfigError(f"There is no command {command!r}; choices: {', '.join(COMMANDS)}.")
    register(command)
    overrides = expand_short_forms(command, overrides)
    check_groups(command, overrides)
    groups = [text for text in overrides if is_group(command, text)]
    try:
        with initialize_config_dir(str(config_dir()), version_base="1.3", job_name=command):
            plain = [text for text in groups if not split_override(text)[1].startswith("hydra")]
            check_keys(command, hydra_compose(command, overrides=plain), overrides)
            return hydra_compose(command, overrides=list(overrides))
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(explain(error)) from error


def to_settings(config: DictConfig) -> Any:
    """A composed configuration as the dataclass of its command, checked.

    Raises:
        ConfigError: for values that are missing, of the wrong type or out of range.
    """
    from omegaconf.errors import OmegaConfBaseException

    missing = missing_keys(config)
    if missing:
        raise ConfigError(f"Required and not given: {', '.join(f'{name}=...' for name in missing)}.")
    try:
        return OmegaConf.to_object(config)
    except OmegaConfBaseException as error:
        raise ConfigError(explain(error)) from error
    except (ValueError, TypeError) as error:
        raise ConfigError(str(error)) from error


def compose(command: str, overrides: Sequence[str] = ()) -> Any:
    """Settings of a command, e.g. ``compose("train", ["scenario=5", "model=small"])``.

    Args:
        command: one of ``COMMANDS``.
        overrides: as on the command line.

    Returns:
        An instance of the command's dataclass in :mod:`icl_bayes.config.schemas`.

    Raises:
        ConfigError: with what was given and what there is to choose from.
    """
    return to_settings(compose_raw(command, overrides))
