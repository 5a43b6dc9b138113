"""Configuration: Hydra composes YAML groups into typed dataclasses; nothing below this layer sees a ``DictConfig``."""

from icl_bayes.config.compose import compose, compose_raw, to_settings
from icl_bayes.config.errors import ConfigError
from icl_bayes.config.files import choices, config_dir, groups_of

__all__ = ["ConfigError", "choices", "compose", "compose_raw", "config_dir", "groups_of", "to_settings"]
