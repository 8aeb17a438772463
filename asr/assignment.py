"""``KEY=VALUE`` as it is typed: the one way in which values are read from the command line.

What is typed is taken as it stands. Text is text, whatever it looks like (``no``, ``1e3``, ``a(1)``); the field says what is to
become of it. Quotation marks around a value, or around an element of a list ``[a,b]``, keep what would else have a meaning:
spaces at the ends, ``null``, and in lists and sweeps the comma.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Iterator

from asr.errors import ConfigError
from asr.option import Option

# A quoted part, at the beginning of an element; or one character.
_PART = re.compile(r"""(?P<quoted>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")(?=\s*(?:,|\Z))|.""", re.DOTALL)
_CALL = re.compile(r"(choice|range)\((.*)\)", re.DOTALL)
_NO_LIST = re.compile(r"(interval|sort|shuffle|glob)\(.*\)", re.DOTALL)  # of Hydra's, which list nothing here
_MOST_VALUES = 10_000


def split_assignment(text: str) -> tuple[str, str]:
    """Split ``KEY=VALUE`` or ``+KEY=VALUE`` at the first ``=``, without the spaces around.

    Examples
    --------
    >>> split_assignment("+name=a=b")
    ('name', 'a=b')
    """
    key, _, value = text.partition("=")
    return key.lstrip("+").strip(), value.strip()


def read_value(entry: Option, value: str) -> str | list[str] | None:
    """Return what a value says to a field: a text, which its type converts, a list of them, or None for ``null``.

    Raises
    ------
    ConfigError
        For a list that is none.
    """
    if typing.get_origin(entry.type) is list:
        if not (value.startswith("[") and value.endswith("]")):
            raise ConfigError(f"{entry.key}={value}: expected {entry.type_name}")
        return [unquoted(part) for part in split_commas(value[1:-1])]
    return None if value == "null" else unquoted(value)


def split_commas(text: str) -> list[str]:
    """Split a text at its commas, but for those inside quotation marks; an empty text has no parts.

    Examples
    --------
    >>> split_commas("it's, 'a, b',c")
    ["it's", "'a, b'", 'c']
    """
    parts = [""]
    for piece in _pieces(text):
        if piece == ",":
            parts.append("")
        else:
            parts[-1] += piece
    return [part.strip() for part in parts] if text.strip() else []


def _pieces(text: str) -> Iterator[str]:
    """Yield commas, and what stands between them: quoted elements whole, the rest character by character."""
    place, at_start = 0, True
    while place < len(text):
        match = _PART.match(text, place)
        assert match is not None
        piece = match[0] if at_start else text[place]
        yield piece
        place += len(piece)
        at_start = piece == "," or (at_start and piece.isspace())


def unquoted(text: str) -> str:
    """Return a text without the quotation marks around it, where they are a pair: the inverse of :func:`quote`."""
    mark = text[:1]
    match = _PART.fullmatch(text) if mark in ("'", '"') else None
    if match is None or not match["quoted"]:
        return text
    return re.sub(rf"(\\+)({mark}|\Z)", lambda found: found[1][: len(found[1]) // 2] + found[2], text[1:-1])


def quote(value: str) -> str:
    r"""Quote a text so that it is one value, whatever characters it has.

    Examples
    --------
    >>> print("output=" + quote("runs/it's"))
    output='runs/it\'s'
    """
    return "'" + re.sub(r"(\\*)('|\Z)", lambda match: 2 * match[1] + ("\\'" if match[2] else ""), value) + "'"


def alternatives(text: str) -> list[str]:
    """Return the values that ``a,b``, ``choice(a,b)`` or ``range(START,STOP[,STEP])`` lists, each as it is typed.

    Raises
    ------
    ConfigError
        For a list of nothing, or a range that is none.
    """
    if _NO_LIST.fullmatch(text):
        raise ConfigError(f"{text}: no list of values follows from it; list them, as in seed=1,2")
    call = _CALL.fullmatch(text)
    if call is None:
        return _joined_lists(split_commas(text)) or [""]
    values = split_commas(call[2]) if call[1] == "choice" else _range(text, split_commas(call[2]))
    if not values:
        raise ConfigError(f"{text}: is no value at all; list the values, as in seed=1,2")
    return values


def _joined_lists(parts: list[str]) -> list[str]:
    """Put together what commas inside ``[a,b]`` have divided."""
    values: list[str] = []
    for part in parts:
        if values and values[-1].startswith("[") and not values[-1].endswith("]"):
            values[-1] += f",{part}"
        else:
            values.append(part)
    return values


def _range(text: str, limits: list[str]) -> list[str]:
    try:
        start, stop, step = map(int, [*(["0"] if len(limits) == 1 else []), *limits, *(["1"] if len(limits) < 3 else [])])
        values = range(start, stop, step)
    except ValueError:
        raise ConfigError(f"{text}: expected whole numbers, as in range(1,4)") from None
    if len(values) > _MOST_VALUES:
        raise ConfigError(f"{text}: {len(values)} values; expected {_MOST_VALUES} at most")
    return [str(value) for value in values]
