"""Which settings of a decoder are searched, and within what bounds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from asr.config import DecodingConfig, options
from asr.errors import ConfigError
from asr.option import Option, nearest

SECTION = "decoding."
BEAM = "beam"

Point = tuple[float, ...]
"""A value for each searched key, in the order of the keys."""

_RANGES: Mapping[str, tuple[float, float]] = {
    "lstm_weight": (0.0, 3.0),
    "lm_weight": (0.0, 3.0),
    "rescore_lm_scale": (0.0, 1.5),
    "word_score": (-4.0, 4.0),
    "blank_penalty": (-1.0, 4.0),
    "prior_weight": (0.0, 1.0),
    "unknown_score": (-20.0, 0.0),
    BEAM: (12, 400),
}
"""Bounds of each key where the user gives none, the keys that matter most first."""

_NETWORK = ("blank_penalty", "prior_weight")
_KINDS: Mapping[str, tuple[str, ...]] = {
    "greedy": _NETWORK,
    "beam": (*_NETWORK, BEAM),
    "beam_ngram": ("lm_weight", "word_score", "unknown_score", *_NETWORK, BEAM),
    "rescore": ("lstm_weight", "lm_weight", "rescore_lm_scale", "word_score", "unknown_score", *_NETWORK, BEAM),
    "fusion": ("lstm_weight", "lm_weight", "word_score", "unknown_score", *_NETWORK, BEAM),
}
"""For each ``decoding.kind`` the keys that change what it writes."""


@dataclass(frozen=True)
class Key:
    """A setting with the bounds between which it is searched.

    Attributes
    ----------
    name
        Field of :class:`asr.config.DecodingConfig`.
    low, high
        Inclusive bounds, in the setting's own unit.
    """

    name: str
    low: float
    high: float

    @property
    def option(self) -> Option:
        """How the schema declares it."""
        return options()[SECTION + self.name]

    @property
    def label(self) -> str:
        """Name and unit, for an axis."""
        unit = self.option.field.metadata["unit"]
        return f"{self.name} ({unit})" if unit else self.name

    @property
    def resolution(self) -> float:
        """Values are multiples of this: a power of ten, a hundredth of the range at most."""
        return 1.0 if self.option.type is int else 10.0 ** math.floor(math.log10((self.high - self.low) / 100))

    def value(self, share: float) -> float:
        """Return the value at a share in [0, 1] of the way from the low to the high bound, rounded."""
        return self.rounded(self.low + min(max(share, 0.0), 1.0) * (self.high - self.low))

    def rounded(self, value: float) -> float:
        """Bring a value to the nearest one that can be tried."""
        digits = max(0, -round(math.log10(self.resolution)))
        return min(max(round(round(value / self.resolution) * self.resolution, digits), self.low), self.high)

    def share(self, value: float) -> float:
        """Return how far a value lies on the way from the low to the high bound."""
        return (value - self.low) / (self.high - self.low)


def searched_keys(config: DecodingConfig, wanted: Sequence[str], fixed: Sequence[str]) -> list[Key]:
    """Return the keys to search, those that matter most first.

    Parameters
    ----------
    config
        The decoder's settings. Its kind, its models and its lexicon decide what can be searched.
    wanted
        What the user wants to be searched, each ``decoding.KEY`` or ``decoding.KEY=LOW:HIGH``; where there is nothing, all that
        changes what this decoder writes.
    fixed
        Fields that the user gave a value; they are searched only where they are wanted as well.

    Raises
    ------
    ConfigError
        A key does not exist, cannot be searched or changes nothing for this decoder; a range is no range; nothing is left.
    """
    useful = [name for name in _RANGES if name in _KINDS.get(config.kind, ()) and _matters(name, config)]
    if wanted:
        ranges = dict(_parsed(item, useful, config) for item in wanted)
        if len(ranges) < len(wanted):
            raise ConfigError(f"--keys {' '.join(wanted)}: a key is named twice; name each once")
    else:
        ranges = {name: _RANGES[name] for name in useful if name not in fixed}
    if not ranges:
        raise ConfigError(
            f"nothing is left to tune: every setting of decoding.kind={config.kind} that could be searched has a fixed value. "
            f"Leave out one of {', '.join(SECTION + name for name in useful)}, or name it after --keys"
        )
    return [Key(name, *ranges[name]) for name in _RANGES if name in ranges]


def _matters(name: str, config: DecodingConfig) -> bool:
    needs = {
        "lm_weight": config.lm is not None,
        "rescore_lm_scale": config.lm is not None,
        "lstm_weight": config.lstm is not None,
        "unknown_score": not config.lexicon and (config.lm is not None or config.kind == "fusion"),
    }
    return needs.get(name, True)


def _parsed(item: str, useful: Sequence[str], config: DecodingConfig) -> tuple[str, tuple[float, float]]:
    """Read ``decoding.KEY=LOW:HIGH`` or ``decoding.KEY``."""
    key, has_range, text = item.partition("=")
    name = key.removeprefix(SECTION)
    known = {entry.removeprefix(SECTION) for entry in options() if entry.startswith(SECTION)}
    if not key.startswith(SECTION) or name not in known:
        hint = nearest(key, [SECTION + one for one in useful])
        raise ConfigError(f"--keys {item}: unknown key {key}; expected decoding.KEY=LOW:HIGH.{hint}")
    if name not in useful:
        raise ConfigError(
            f"--keys {item}: {key} is not searched with decoding.kind={config.kind} and its models; "
            f"expected some of {', '.join(SECTION + one for one in useful)}"
        )
    if not has_range:
        return name, _RANGES[name]
    bounds = text.split(":")
    try:
        low, high = (float(bound) for bound in bounds)
    except ValueError:
        raise ConfigError(f"--keys {item}: expected two numbers with a colon between them, such as {key}=0.2:3") from None
    _check_bounds(item, name, low, high)
    return name, (low, high)


def _check_bounds(item: str, name: str, low: float, high: float) -> None:
    entry = options()[SECTION + name]
    for bound in (low, high):
        value: Any = bound
        if entry.type is int:
            if not bound.is_integer():
                raise ConfigError(f"--keys {item}: {bound:g} is not an integer, as {entry.key} has to be")
            value = int(bound)
        try:
            entry.check(value)
        except ConfigError as error:
            raise ConfigError(f"--keys {item}: {error}") from None
    if not low < high:
        raise ConfigError(f"--keys {item}: the range is upside down or empty; expected the low bound first, {high:g}:{low:g}")
