"""Configuration objects from mappings and back: what a model package holds, checked as it is read."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar

from asr.config import Config
from asr.config_checks import validate
from asr.errors import ConfigError
from asr.option import leaves, nearest, sections

T = TypeVar("T")


def from_mapping(mapping: Mapping[str, Any]) -> Config:
    """Build a checked configuration from nested mappings; keys that are absent keep their defaults.

    Raises
    ------
    ConfigError
        For an unknown key, a wrong type, or a value out of range.
    """
    config = read_mapping(mapping, Config)
    validate(config)
    return config


def read_mapping(mapping: Mapping[str, Any], schema: type[T]) -> T:
    """Build an object of a schema from nested mappings; types are checked, ranges not yet.

    Raises
    ------
    ConfigError
        For an unknown key or a wrong type.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        return to_object(OmegaConf.merge(_defaults(schema), dict(mapping)), schema)  # type: ignore[arg-type]
    except OmegaConfBaseException as error:
        raise explain(error, schema) from None


@cache
def _defaults(schema: type) -> Any:
    """Return the OmegaConf node of a schema's defaults, not to be changed."""
    from omegaconf import OmegaConf

    return OmegaConf.structured(schema)


def to_object(node: Any, schema: type[T]) -> T:
    """Turn an OmegaConf node of a schema into plain dataclasses, interpolations resolved."""
    from omegaconf import OmegaConf

    config = OmegaConf.to_object(node)
    if not isinstance(config, schema):
        raise ConfigError(f"expected a mapping of configuration keys, got {type(config).__name__}")
    return config


def to_yaml(config: Any) -> str:
    """Write a schema's object as YAML that :func:`read_mapping` reads back."""
    import yaml

    return yaml.safe_dump(dataclasses.asdict(config), sort_keys=False, allow_unicode=True, width=120)


def explain(error: Exception, schema: type = Config) -> ConfigError:
    """Translate an error of OmegaConf: which key, what was found, what was expected, which key is nearest."""
    key = str(getattr(error, "full_key", "") or "")
    text = str(error).splitlines()[0]
    entry = leaves(schema).get(key.split("[")[0])
    if entry is not None:
        return ConfigError(f"{key}: expected {entry.type_name}; {text[0].lower() + text[1:]}")
    if "not in" in text and key:
        return ConfigError(f"unknown key {key}.{nearest(key, [*leaves(schema), *sections(schema)])}")
    return ConfigError(f"{key}: {text}" if key else text)
