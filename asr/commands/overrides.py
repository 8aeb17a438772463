"""Settings of the decoder on the command line, such as ``decoding.beam=100``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from asr.errors import ConfigError

if TYPE_CHECKING:
    from asr.config import Config

_OVERRIDE = "decoding."
_WITH_NGRAM, _WITH_LSTM = ("beam_ngram", "rescore", "fusion"), ("rescore", "fusion")
_USED_BY = {
    "lm": _WITH_NGRAM,
    "lm_weight": _WITH_NGRAM,
    "lstm": _WITH_LSTM,
    "lstm_weight": _WITH_LSTM,
    "rescore_lm_scale": ("rescore",),
    "rescore_n": ("rescore",),
}


def is_override(item: str) -> bool:
    """Say whether an argument sets something, and is not the name of a file or manifest."""
    return item.startswith(_OVERRIDE) and "=" in item


def given_manifests(args: argparse.Namespace, purpose: str = "") -> list[str]:
    """Return the names among which settings stand.

    Raises
    ------
    ConfigError
        There is none.
    """
    names = [item for item in args.manifests if not is_override(item)]
    if not names:
        raise ConfigError(f"no manifest is named; expected at least one{purpose}, such as librispeech/dev-clean")
    return names


def given_overrides(args: argparse.Namespace) -> list[str]:
    """Return settings that stand among the manifests, and behind ``--decoding``."""
    return [*filter(is_override, args.manifests), *args.decoding]


def add_hot_words(parser: argparse.ArgumentParser) -> None:
    """Declare the argument that names hot words."""
    parser.add_argument(
        "--hotwords",
        metavar="WORDS",
        help="make words and phrases likelier: a file with one a line, or WORD,WORD:WEIGHT,A PHRASE (with a beam search)",
    )


def add_decoding(parser: argparse.ArgumentParser) -> None:
    """Declare the argument that sets the decoder."""
    parser.add_argument(
        "--decoding",
        action="append",
        default=[],
        type=_setting,
        metavar="KEY=VALUE",
        help="a setting of the decoder, such as kind=greedy or beam=100; may be given several times",
    )


def _setting(text: str) -> str:
    if "=" not in text:
        raise argparse.ArgumentTypeError(f"{text!r} is no setting; expected KEY=VALUE, such as beam=100")
    return text


def with_overrides(config: Config, overrides: Sequence[str], hot_words: str | None = None) -> Config:
    """Return a package's configuration with settings of the decoder replaced.

    Parameters
    ----------
    config
        The package's.
    overrides
        Each ``decoding.KEY=VALUE``, or ``KEY=VALUE``.
    hot_words
        Words as :func:`asr.decoding.builders.hot_words.read_hot_words` takes them, beside those of the settings.

    Raises
    ------
    ConfigError
        For an unknown key, a wrong type, a value out of range, or a language model that the kind of decoder does not use.
    """
    import dataclasses

    from asr.assignment import read_value, split_assignment
    from asr.config import options
    from asr.config_mapping import from_mapping
    from asr.option import nearest

    mapping = dataclasses.asdict(config)
    known = {key: entry for key, entry in options().items() if key.startswith(_OVERRIDE)}
    given: list[str] = []
    for override in overrides:
        key, value = split_assignment(override.removeprefix(_OVERRIDE))
        entry = known.get(_OVERRIDE + key)
        if entry is None:
            raise ConfigError(f"unknown key {_OVERRIDE}{key}.{nearest(_OVERRIDE + key, known)}")
        given.append(key)
        mapping["decoding"][key] = read_value(entry, value)
    if hot_words is not None:
        from asr.decoding.builders.hot_words import read_hot_words

        mapping["decoding"]["hot_words"] = [*mapping["decoding"]["hot_words"], *read_hot_words(hot_words)]
    result = from_mapping(mapping)
    for key in given:
        unused = key in _USED_BY and result.decoding.kind not in _USED_BY[key]
        if unused and getattr(result.decoding, key) is not None:
            raise ConfigError(
                f"{_OVERRIDE}{key}: decoding.kind={result.decoding.kind} does not use it; set decoding.kind to "
                f"{' or '.join(_USED_BY[key])}"
            )
        if key == "rescore_lm_scale" and result.decoding.lm is None:
            raise ConfigError(
                f"{_OVERRIDE}{key}: there is no n-gram model to weigh; name one with {_OVERRIDE}lm=PATH, or leave it out"
            )
    return result
