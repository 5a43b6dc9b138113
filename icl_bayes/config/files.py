"""Where the YAML files are and what there is to choose from; imports nothing that takes time."""

from __future__ import annotations

import re
from pathlib import Path

COMMANDS = ("train", "sample", "glm", "evaluate", "reproduce", "calibrate", "demo")
_GROUP = re.compile(r"^\s*-\s*(?:override\s+)?/?(?P<group>[a-z_/]+)\s*:\s*\S+")


def config_dir() -> Path:
    """The folder of configurations: inside the package in a wheel, at the top level of a checkout.

    Raises:
        FileNotFoundError: if the installation has neither.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "configs", package.parent / "configs"):
        if (folder / "train.yaml").is_file():
            return folder
    raise FileNotFoundError(
        f"No configurations in {package / 'configs'} or {package.parent / 'configs'}; reinstall icl_bayes."
    )


def choices(group: str) -> list[str]:
    """Names of the options of a group, e.g. ``choices("model")``; empty for a group there is not."""
    return sorted(path.stem for path in (config_dir() / group).glob("*.yaml"))


def groups_of(command: str) -> list[str]:
    """Groups that a command's configuration is composed of, in order."""
    lines = (config_dir() / f"{command}.yaml").read_text(encoding="utf-8").splitlines()
    return [match["group"] for line in lines if (match := _GROUP.match(line))]
