"""Words and names that are made likelier: a list in the settings, on the command line or in a file."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from asr.errors import ConfigError
from asr.text import Tokenizer

_MOST_SPELLINGS = 16
_MAX_BYTES = 1 << 20
_FILE_ENDINGS = (".txt", ".text", ".csv", ".tsv", ".json", ".jsonl", ".yaml", ".yml", ".md", ".lst")


@dataclass(frozen=True)
class HotWord:
    """A word or phrase.

    Attributes
    ----------
    words
        Its words, normalised.
    weight
        How many times the usual bonus it gets.
    spellings
        Its token sequences, boundaries between the words.
    """

    words: tuple[str, ...]
    weight: float
    spellings: tuple[tuple[int, ...], ...]


def read_hot_words(argument: str) -> list[str]:
    """Return hot words from the command line: ``word,word:weight,a whole phrase`` or a file with one of them a line.

    Empty lines of a file, and those that begin with ``#``, are left out.

    Raises
    ------
    ConfigError
        A file that is absent or cannot be read, or nothing in it.
    """
    if os.path.exists(argument) and not os.path.isdir(argument):
        items = [line for line in _read(argument).splitlines() if not line.lstrip().startswith("#")]
    else:
        items = argument.split(",")
        file = next((item.strip() for item in items if _names_file(item.strip(), alone=len(items) == 1)), None)
        if file is not None:
            reason = "a file stands alone" if os.path.exists(file) else "there is no such file"
            raise ConfigError(
                f"hot words {argument!r}: {file!r} looks like the name of a file, and {reason}; expected one file, or words "
                "without slashes and endings"
            )
    found = [item.strip() for item in items if item.strip()]
    if not found:
        raise ConfigError(
            f"hot words {argument!r}: there are none; expected a file with a word or phrase a line, or WORD,WORD:WEIGHT"
        )
    return found


def _names_file(item: str, *, alone: bool) -> bool:
    """Say whether what is no file looks like the name of one; ``AC/DC`` may be a word in a list."""
    return item.lower().endswith(_FILE_ENDINGS) or item.startswith(("/", "./", "../", "~/")) or (alone and "/" in item)


def _read(path: str) -> str:
    """Return the text of a file or of a pipe, which may have no end."""
    try:
        with open(path, "rb") as stream:
            content = stream.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise ConfigError(f"{path}: more than {_MAX_BYTES:,} bytes; expected a file with some hot words, one a line")
        return content.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: hot words cannot be read: {getattr(error, 'strerror', None) or error}") from None


def split_weight(item: str) -> tuple[str, float]:
    """Split ``words:weight``; the weight is 1 where there is none.

    Raises
    ------
    ConfigError
        For a weight that is no number above 0.
    """
    words, colon, weight = item.rpartition(":")
    if not colon:
        return item, 1.0
    try:
        value = float(weight)
    except ValueError:
        value = 0.0
    if not 0.0 < value < 1e3:
        raise ConfigError(
            f"hot word {item!r}: the weight {weight!r} is no number above 0 and below 1000; expected WORD:WEIGHT, such as "
            "lisbon:1.5"
        )
    return words, value


def spell_hot_words(
    items: Sequence[str], tokenizer: Tokenizer, lexicon: Mapping[str, Sequence[tuple[int, ...]]]
) -> list[HotWord]:
    """Find the spellings of hot words.

    Parameters
    ----------
    items
        Each ``WORD`` or ``WORD:WEIGHT``; of one that is named twice the last counts.
    tokenizer
        Normalises them, and spells what the lexicon lacks.
    lexicon
        Spellings of known words.

    Raises
    ------
    ConfigError
        For those whose weight is none, that hold nothing, or what the model cannot write: all of them are named.
    """
    weights: dict[tuple[str, ...], float] = {}
    faults: list[str] = []
    for item in items:
        try:
            text, weight = split_weight(item)
        except ConfigError as error:
            faults.append(str(error))
            continue
        words = tuple(tokenizer.normalise(text).split())
        if words:
            weights[words] = weight
        else:
            faults.append(f"hot word {item!r}: nothing of it is left after normalisation; expected a word or phrase")
    new = tokenizer.spell_many([word for words in weights for word in words if word not in lexicon])
    found = []
    for words, weight in weights.items():
        parts = [lexicon.get(word) or new.get(word) or () for word in words]
        missing = [word for word, part in zip(words, parts, strict=True) if not part]
        if missing:
            unwritable = ", ".join(map(repr, dict.fromkeys(missing)))
            faults.append(f"hot word {' '.join(words)!r}: the model cannot write {unwritable}; its tokens are {tokenizer.kind}")
        ways = itertools.islice(itertools.product(*parts), _MOST_SPELLINGS)
        found.append(HotWord(words, weight, tuple(_joined(way, tokenizer.boundary) for way in ways)))
    if len(faults) > 1:
        faults.insert(0, f"{len(faults)} of {len(items)} hot words cannot be used; correct them or leave them out:")
    if faults:
        raise ConfigError("\n".join(faults))
    return found


def _joined(parts: Sequence[tuple[int, ...]], boundary: int | None) -> tuple[int, ...]:
    between = () if boundary is None else (boundary,)
    return tuple(token for index, part in enumerate(parts) for token in (*(between if index else ()), *part))
