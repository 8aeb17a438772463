"""Settings of the decoder on the command line, such as ``decoding.beam=100``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from asr.errors import ConfigError

if TYPE_CHECKING:
    from asr.config import Config

_OVERRIDE = "decoding."


def is_override(item: str) -> bool:
    """Say whether an argument sets something, and is not the name of a file or manifest."""
    return item.startswith(_OVERRIDE) and "=" in item


def add_hot_words(parser: argparse.ArgumentParser) -> None:
    """Declare the argument that names hot words."""
    parser.add_argument(
        "--hotwords",
        metavar="WORDS",
        help="make words and phrases likelier: a file with one a line, or WORD,WORD:WEIGHT,A PHRASE (with a beam search)",
    )


def with_overrides(config: Config, overrides: Sequence[str], hot_words: str | None = None) -> Config:
    """Return a package's configuration with settings of the decoder replaced.

    Parameters
    ----------
    config
        The package's.
    overrides
        Each ``decoding.KEY=VALUE``.
    hot_words
        Words as :func:`asr.decoding.hotwords.read_hot_words` takes them, beside those of the settings.

    Raises
    ------
    ConfigError
        For an unknown key, a wrong type, or a value out of range.
    """
    import dataclasses

    import yaml

    from asr.config import from_mapping

    mapping = dataclasses.asdict(config)
    for override in overrides:
        key, _, value = override.removeprefix(_OVERRIDE).partition("=")
        node = mapping["decoding"]
        *sections, leaf = key.split(".")
        for section in sections:
            node = node.setdefault(section, {})
            if not isinstance(node, dict):
                raise ConfigError(f"unknown key {_OVERRIDE}{key}: {section} is a single value and holds no {leaf}")
        try:
            node[leaf] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise ConfigError(f"{override!r}: the value is not valid YAML; quote special characters") from None
    if hot_words is not None:
        from asr.decoding.hotwords import read_hot_words

        mapping["decoding"]["hot_words"] = [*mapping["decoding"]["hot_words"], *read_hot_words(hot_words)]
    return from_mapping(mapping)
