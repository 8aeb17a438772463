"""Where the errors are: error rates by what is known of the utterances, and the words that are confused."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from asr.scoring.intervals import choose_units
from asr.scoring.pairs import Confusions, Pair, count_confusions
from asr.scoring.score import ErrorRate, Score, UtteranceScore, error_rate

_PARTS = 4
_OFTEN = ((1, 1), (2, 9), (10, 0))  # how often a word is said, from and to; 0 is without end
_MIN_BY_PART = 5  # utterances, below which a part says nothing
_UNKNOWN = "unknown"
_SHOWN, _WORST = 20, 10  # of more than so many groups, so many are printed

_NAMED = ("speaker", "gender")
LABELS: Mapping[str, str] = {
    "words": "words in the reference",
    "duration_s": "duration (s)",
    "words_per_s": "speaking rate (words/s)",
    "snr_db": "signal-to-noise ratio (dB, estimated)",
    "confidence": "mean confidence of the words",
}
"""What measured attributes are called."""


@dataclass(frozen=True)
class Group:
    """Utterances that are alike in something.

    Attributes
    ----------
    attribute
        In what: ``speaker``, ``gender``, ``words``, ``duration_s``, ``words_per_s``, ``snr_db`` or ``confidence``.
    label
        The value, or the range of values.
    n_utterances
        How many.
    wer
        Their word error rate, with an interval over utterances.
    """

    attribute: str
    label: str
    n_utterances: int
    wer: ErrorRate

    def to_mapping(self) -> dict[str, Any]:
        """Return a row of a summary file."""
        return {"label": self.label, "utterances": self.n_utterances, "wer": self.wer.to_mapping()}


@dataclass(frozen=True)
class WordGroup:
    """Words of the references that are alike in something.

    Attributes
    ----------
    label
        In what: how often they are said here, or whether they are in the decoder's vocabulary.
    n_words, n_right
        How many are said, and of them written.
    """

    label: str
    n_words: int
    n_right: int

    def line(self) -> str:
        """Return it as one line."""
        return f"{self.label}: {100 * self.n_right / self.n_words:.1f} % right of {self.n_words:,}"

    def to_mapping(self) -> dict[str, Any]:
        """Return a row of a summary file."""
        return {"label": self.label, "words": self.n_words, "right": self.n_right}


@dataclass(frozen=True)
class Breakdown:
    """Where a system's errors are.

    Attributes
    ----------
    groups
        Error rates of utterances that are alike.
    words
        How many of the words that are alike are right.
    confusions
        What is taken for what.
    """

    groups: tuple[Group, ...]
    words: tuple[WordGroup, ...]
    confusions: Confusions

    def summary(self, top: int = 10) -> str:
        """Return a line a group, those of an attribute under its name, and the most frequent confusions."""
        lines = []
        for attribute, rows in self._by_attribute().items():
            lines.append(f"by {LABELS.get(attribute, attribute)}")
            shown = rows if len(rows) <= _SHOWN else sorted(rows, key=lambda group: -group.wer.rate)[:_WORST]
            width = max(len(group.label) for group in shown)
            lines += [f"  {group.label:{width}}  {group.n_utterances:,} utterances  {group.wer.line('WER')}" for group in shown]
            lines += [f"  and {len(rows) - len(shown)} with fewer errors"] if len(shown) < len(rows) else []
        lines += ["by word", *(f"  {group.line()}" for group in self.words)]
        return "\n".join([*lines, *self.confusions.lines(top)])

    def to_mapping(self) -> dict[str, Any]:
        """Return what a summary file holds."""
        groups = {name: [group.to_mapping() for group in rows] for name, rows in self._by_attribute().items()}
        words = [group.to_mapping() for group in self.words]
        return {"groups": groups, "words": words, "confusions": self.confusions.to_mapping()}

    def _by_attribute(self) -> dict[str, list[Group]]:
        names = dict.fromkeys(group.attribute for group in self.groups)
        return {name: [group for group in self.groups if group.attribute == name] for name in names}


def break_down(
    score: Score,
    alignments: Sequence[Sequence[Pair]],
    attributes: Mapping[str, Mapping[str, Any]],
    vocabulary: frozenset[str] | None = None,
    sounds: Sequence[Sequence[Pair]] | None = None,
) -> Breakdown:
    """Return where the errors are: by each attribute that is known, and by words.

    Names are groups by themselves; numbers are parted into four of about as many utterances each.

    Parameters
    ----------
    score
        Of a corpus.
    alignments
        Of each utterance, its words and the reference's side by side.
    attributes
        By utterance id: ``speaker``, ``gender``, ``duration_s``, ``snr_db``, ``confidence``, whichever are known.
    vocabulary
        Words that the system can write, where they are a closed list.
    sounds
        Of a system that writes sounds, these side by side: what it confuses is told of them, not of words.
    """
    groups: list[Group] = []
    for name in _NAMED:
        values = [attributes.get(row.id, {}).get(name) for row in score.utterances]
        by_value: defaultdict[str, list[UtteranceScore]] = defaultdict(list)
        for row, value in zip(score.utterances, values, strict=True):
            by_value[value if isinstance(value, str) else _UNKNOWN].append(row)
        if len(by_value) > 1:
            groups += [_group(name, value, by_value[value]) for value in sorted(by_value)]
    for name, value_of in _MEASURES.items():
        numbers = [value_of(row, attributes.get(row.id, {})) for row in score.utterances]
        known = [(row, number) for row, number in zip(score.utterances, numbers, strict=True) if number is not None]
        parts = _by_range(name, [row for row, _ in known], np.array([number for _, number in known], dtype=float))
        others = [row for row, number in zip(score.utterances, numbers, strict=True) if number is None]
        groups += [*parts, _group(name, _UNKNOWN, others)] if parts and others else parts
    return Breakdown(
        tuple(groups),
        tuple(_by_word(alignments, vocabulary)),
        count_confusions(alignments) if sounds is None else count_confusions(sounds, "sounds"),
    )


def _by_word(alignments: Sequence[Sequence[Pair]], vocabulary: frozenset[str] | None) -> list[WordGroup]:
    said: Counter[str] = Counter()
    right: Counter[str] = Counter()
    for left, heard in (pair for pairs in alignments for pair in pairs):
        if left is not None:
            said[left] += 1
            right[left] += left == heard
    kinds: dict[str, Sequence[str]] = {}
    for low, high in _OFTEN:
        label = "said once here" if high == 1 else f"said {low} to {high} times" if high else f"said {low} times or more"
        kinds[label] = [word for word, n in said.items() if low <= n <= (high or n)]
    if vocabulary is not None:
        kinds["in the vocabulary"] = [word for word in said if word in vocabulary]
        kinds["outside of it"] = [word for word in said if word not in vocabulary]
    groups = [(label, sum(said[word] for word in words), sum(right[word] for word in words)) for label, words in kinds.items()]
    return [WordGroup(*group) for group in groups if group[1]]


def _group(attribute: str, label: str, rows: Sequence[UtteranceScore]) -> Group:
    return Group(attribute, label, len(rows), error_rate([row.words for row in rows], choose_units(len(rows))))


def _by_range(attribute: str, rows: Sequence[UtteranceScore], numbers: np.ndarray) -> list[Group]:
    if len(rows) < _PARTS * _MIN_BY_PART:
        return []
    edges = np.unique(np.quantile(numbers, np.linspace(0, 1, _PARTS + 1)))
    if len(edges) < 3:
        return []
    part = np.clip(np.searchsorted(edges, numbers, side="right") - 1, 0, len(edges) - 2)
    groups = []
    for index in range(len(edges) - 1):
        chosen = np.flatnonzero(part == index).tolist()
        if chosen:
            low, high = f"{numbers[chosen].min():.4g}", f"{numbers[chosen].max():.4g}"
            label = low if low == high else f"{low} to {high}"
            groups.append(_group(attribute, label, [rows[one] for one in chosen]))
    return groups


def _known(name: str) -> Callable[[UtteranceScore, Mapping[str, Any]], float | None]:
    return lambda _, known: known.get(name)


def _words_per_s(row: UtteranceScore, known: Mapping[str, Any]) -> float | None:
    duration_s = known.get("duration_s")
    return row.words.reference / duration_s if duration_s else None


_MEASURES: Mapping[str, Callable[[UtteranceScore, Mapping[str, Any]], float | None]] = {
    "words": lambda row, _: row.words.reference,
    "duration_s": _known("duration_s"),
    "words_per_s": _words_per_s,
    "snr_db": _known("snr_db"),
    "confidence": _known("confidence"),
}
