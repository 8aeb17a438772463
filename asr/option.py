"""What a configuration field declares about itself, and errors that name the nearest right one.

:mod:`asr.config` declares the fields with :func:`option`; :func:`leaves` reads the declarations back as a flat table, from
which checks, messages and help texts are made.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import typing
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from asr.errors import ConfigError
from asr.output import is_unicode


def option(
    default: Any,
    doc: str,
    *,
    unit: str = "",
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
) -> Any:
    """Declare a configuration field.

    Parameters
    ----------
    default
        The default value; a list is copied for each instance.
    doc
        One line that says what the field does.
    unit
        Unit of a number (``s``, ``Hz``, ``dB``); empty where there is none.
    low, high
        Inclusive range of a number, or of each element of a list of numbers.
    choices
        The values a string may take.
    """
    metadata = {"doc": doc, "unit": unit, "low": low, "high": high, "choices": choices}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Option:
    """One leaf of the schema: its dotted key, its type and its declaration."""

    key: str
    type: Any
    field: dataclasses.Field[Any]

    @property
    def holds_text(self) -> bool:
        """Whether it is a text, or a list of texts."""
        return str in (self.type, *typing.get_args(self.type))

    @property
    def type_name(self) -> str:
        """The type in words: ``an integer``, ``a list of numbers``."""
        names = {int: "an integer", float: "a number", str: "text", bool: "true or false"}
        plural = {int: "integers", float: "numbers", str: "texts", bool: "truth values"}
        if typing.get_origin(self.type) is list:
            return f"a list of {plural[typing.get_args(self.type)[0]]}, such as [a,b]"
        inner = [part for part in typing.get_args(self.type) if part is not type(None)]
        return f"{names[inner[0]]} or null" if inner else names[self.type]

    @property
    def range_name(self) -> str:
        """The permitted values in words; empty where anything goes."""
        metadata = self.field.metadata
        unit = f" {metadata['unit']}" if metadata["unit"] else ""
        low, high = metadata["low"], metadata["high"]
        if metadata["choices"]:
            return "one of " + ", ".join(metadata["choices"])
        if low is not None and high is not None:
            return f"{low:.10g} to {high:.10g}{unit}"
        if low is not None:
            return f"at least {low:.10g}{unit}"
        return f"at most {high:.10g}{unit}" if high is not None else ""

    def check(self, value: Any) -> None:
        """Raise a ConfigError where a value, or an element of a list, is not among the choices or out of range."""
        for element in value if isinstance(value, list) else [value]:
            if isinstance(value, list) and (element is None or isinstance(element, list | dict)):
                raise ConfigError(f"{self.key}={show(value)}: expected a plain list, without {show(element)} in it")
            self._check_element(element, value)

    def _check_element(self, element: Any, value: Any) -> None:
        if element is None:
            return
        if isinstance(element, str) and not is_unicode(element):
            raise ConfigError(f"{self.key}={show(value)!r}: is not UTF-8, and settings are kept as text; rename it")
        metadata = self.field.metadata
        choices, low, high = metadata["choices"], metadata["low"], metadata["high"]
        if choices and element not in choices:
            hint = nearest(str(element), choices)
            raise ConfigError(f"{self.key}={show(value)}: expected {self.range_name}.{hint}")
        if isinstance(element, bool) or not isinstance(element, int | float):
            return
        outside = (low is not None and element < low) or (high is not None and element > high)
        if outside or not math.isfinite(element):
            raise ConfigError(f"{self.key}={show(value)}: expected {self.range_name or 'a finite number'}")


def leaves(schema: type) -> dict[str, Option]:
    """Every dotted key of a schema with its declaration, in the schema's order."""
    return _leaves(schema)


@cache
def _leaves(schema: type) -> dict[str, Option]:
    def walk(part: type, prefix: str) -> Iterator[Option]:
        hints = typing.get_type_hints(part)
        for entry in dataclasses.fields(part):
            if dataclasses.is_dataclass(hints[entry.name]):
                yield from walk(hints[entry.name], f"{prefix}{entry.name}.")
            else:
                yield Option(prefix + entry.name, hints[entry.name], entry)

    return {entry.key: entry for entry in walk(schema, "")}


def sections(schema: type) -> list[str]:
    """List the keys that hold other keys, such as ``model`` and ``model.cnn``."""
    paths = (key.split(".")[:-1] for key in leaves(schema))
    return sorted({".".join(path[: depth + 1]) for path in paths for depth in range(len(path))})


def nearest(word: str, known: Iterable[str]) -> str:
    """End of an error message: `` Did you mean ...?`` or nothing.

    The last part of a dotted key is compared as well, so that ``epoch`` finds ``trainer.epochs``.
    """
    known = list(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if not close:
        by_leaf: dict[str, str] = {}
        for key in known:
            by_leaf.setdefault(key.split(".")[-1], key)
        close = [by_leaf[leaf] for leaf in difflib.get_close_matches(word.split(".")[-1], by_leaf, n=1, cutoff=0.75)]
    return f" Did you mean {close[0]}?" if close else ""


def show(value: Any) -> str:
    """Write a value as it is typed on the command line."""
    return "[" + ",".join(map(str, value)) + "]" if isinstance(value, list) else str(value)
