"""Several systems on the same utterances: which differences are real, and where they lie."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

import numpy as np

from asr.errors import DataError
from asr.output import one_line
from asr.scoring.intervals import Interval, bootstrap_difference, choose_units, sign_flip_test
from asr.scoring.pairs import Pair, align_words
from asr.scoring.score import Score
from asr.scoring.significance import MIN_SEGMENTS, Mapsswe, holm, mapsswe

_LEVEL = 0.05


@dataclass(frozen=True)
class System:
    """A system's texts, scored.

    Attributes
    ----------
    name
        What it is called in tables.
    score
        Its error rates.
    alignments
        Of each utterance, its words and the reference's side by side.
    oracle
        Error rates of the best of several readings an utterance, where it wrote such.
    """

    name: str
    score: Score
    alignments: tuple[tuple[Pair, ...], ...]
    oracle: Score | None = None

    @classmethod
    def of(cls, name: str, score: Score, oracle: Score | None = None) -> System:
        """Align the words of a score."""
        rows = score.utterances
        return cls(name, score, tuple(align_words([row.reference for row in rows], [row.hypothesis for row in rows])), oracle)


@dataclass(frozen=True)
class Difference:
    """Two systems on the same utterances.

    Attributes
    ----------
    first, second
        Their names.
    wer
        The second's word error rate less the first's, as a fraction.
    interval
        Its 95 % confidence interval by the paired bootstrap.
    test
        The matched-pair test of segments, which takes them as independent.
    p_flips
        Probability of such a difference by chance, by a test of all signs of the speakers' or utterances' differences.
    p
        The one that is decided by, for all pairs of systems together (Holm): MAPSSWE's, but that of the signs where speakers
        are known, since a speaker's segments are not independent, and where there are too few segments.
    utterances
        Ids with the second's errors less the first's, where they differ; the second's gains first.
    words
        Words of the reference with how much more often the second had them right, where they differ; gains first.
    """

    first: str
    second: str
    wer: float
    interval: Interval
    test: Mapsswe
    p_flips: float
    p: float
    utterances: tuple[tuple[str, int], ...] = field(repr=False, default=())
    words: tuple[tuple[str, int], ...] = field(repr=False, default=())

    @property
    def is_real(self) -> bool:
        """Whether the probability is below 5 %."""
        return self.p < _LEVEL

    def line(self) -> str:
        """Return it as one line."""
        points = f"{100 * self.wer:+.2f} points {self.interval.phrase()}"
        verdict = "a real difference" if self.is_real else "chance would do"
        return f"{self.second} against {self.first}: {points}, p {_p(self.p)} ({self.how}): {verdict}"

    @property
    def how(self) -> str:
        """What the probability is of, and the other test beside it."""
        n = self.test.n_segments
        segments = "1 segment" if n == 1 else f"{n} segments"
        if self.interval.unit == "speaker":
            beside = f"; MAPSSWE over {segments}: p {_p(self.test.p)}" if n >= MIN_SEGMENTS else ""
            return f"signs of {self.interval.n_units} speakers{beside}"
        return f"MAPSSWE, {segments}" if n >= MIN_SEGMENTS else f"signs of the utterances; {segments}, too few for MAPSSWE"

    def to_mapping(self, top: int = 100) -> dict[str, Any]:
        """Return what a summary file holds; of utterances and words as many as asked for from either end."""
        finite = {
            "wer_difference": self.wer,
            "p": self.p,
            "p_flips": self.p_flips,
            "p_mapsswe": self.test.p,
        }
        return {
            "first": self.first,
            "second": self.second,
            **self.interval.to_mapping(),
            **{name: value if math.isfinite(value) else None for name, value in finite.items()},
            "segments": self.test.n_segments,
            "how": self.how,
            "real": self.is_real,
            "utterances": [list(row) for row in _ends(self.utterances, top)],
            "words": [list(row) for row in _ends(self.words, top)],
        }


@dataclass(frozen=True)
class SystemComparison:
    """Systems, and those two and two that were compared."""

    systems: tuple[System, ...]
    differences: tuple[Difference, ...]

    def summary(self, top: int = 5) -> str:
        """Return a line a system, a line each two, and where they differ most."""
        width = max(len(system.name) for system in self.systems)
        lines = []
        for system in self.systems:
            lines.append(f"{system.name:{width}}  {system.score.wer.line('WER')}")
            lines += [f"{'':{width}}  best of the n best: {system.oracle.wer.line('WER')}"] if system.oracle else []
        for difference in self.differences:
            lines.append(difference.line())
            for what, rows in (("utterances", difference.utterances), ("words", difference.words)):
                better, worse = _gains(rows, what)[:top], _losses(rows, what)[:top]
                lines += [f"  {what} better: {_listed(better)}"] if better else []
                lines += [f"  {what} worse: {_listed(worse)}"] if worse else []
        caution = self.systems[0].score.caution
        return "\n".join([*lines, caution] if caution else lines)

    def markdown(self) -> str:
        """Return the systems as the rows of a table, and the differences below."""
        rows = "".join(f"| {_cell(system.name)} | {system.score.markdown()} |\n" for system in self.systems)
        head = "| system | WER [95 % interval] | CER | SER |\n|---|---|---|---|\n"
        return head + rows + "".join(f"\n{difference.line()}\n" for difference in self.differences)

    def to_mapping(self) -> dict[str, Any]:
        """Return what a summary file holds."""
        systems = [
            {
                "name": one.name,
                **{name: getattr(one.score, name).to_mapping() for name in ("wer", "cer", "ser")},
                **({"oracle_wer": one.oracle.wer.to_mapping()} if one.oracle else {}),
            }
            for one in self.systems
        ]
        return {"systems": systems, "differences": [difference.to_mapping() for difference in self.differences]}


def compare(
    systems: Sequence[System], speakers: Mapping[str, str] | None = None, *, with_best: bool = False
) -> SystemComparison:
    """Compare each two systems, or the best with each of the others.

    Parameters
    ----------
    systems
        Two or more, scored against the same references, or one, which is compared with none.
    speakers
        By utterance id; see :func:`asr.scoring.intervals.choose_units`.
    with_best
        Compare only the one with the fewest word errors with the others.

    Raises
    ------
    DataError
        They were not scored on the same utterances, or not against the same words.
    ValueError
        Their utterances are not in the same order.
    """
    for system in systems[1:]:
        _check_same(systems[0], system)
    best = min(systems, key=lambda system: system.score.wer.rate)
    pairs = [(best, other) for other in systems if other is not best] if with_best else combinations(systems, 2)
    found = [_difference(*pair, speakers) for pair in pairs]
    together = holm([one.p for one in found])
    return SystemComparison(tuple(systems), tuple(replace(one, p=p) for one, p in zip(found, together, strict=True)))


def _difference(first: System, second: System, speakers: Mapping[str, str] | None) -> Difference:
    rows, others = first.score.utterances, second.score.utterances
    units = choose_units(len(rows), [speakers.get(row.id) for row in rows] if speakers else None)
    errors, other_errors = (np.array([row.words.errors for row in part], np.int64) for part in (rows, others))
    references = np.array([row.words.reference for row in rows], np.int64)
    interval = bootstrap_difference(errors, other_errors, references, units)
    p_flips = sign_flip_test(units.sums(other_errors - errors))
    test = mapsswe(first.alignments, second.alignments)
    changed = [(row.id, int(two - one)) for row, one, two in zip(rows, errors, other_errors, strict=True) if one != two]
    words = Counter(_right(second.alignments))
    words.subtract(_right(first.alignments))
    gained = [(word, n) for word, n in words.items() if n]
    return Difference(
        first.name,
        second.name,
        second.score.wer.rate - first.score.wer.rate,
        interval,
        test,
        p_flips,
        p_flips if math.isnan(test.p) or units.name == "speaker" else test.p,
        tuple(sorted(changed, key=lambda item: (item[1], item[0]))),
        tuple(sorted(gained, key=lambda item: (-item[1], item[0]))),
    )


def _right(alignments: Sequence[Sequence[Pair]]) -> Counter[str]:
    return Counter(left for pairs in alignments for left, right in pairs if left is not None and left == right)


def _check_same(first: System, second: System) -> None:
    names = [{row.id: row.reference for row in system.score.utterances} for system in (first, second)]
    alone = sorted(names[0].keys() ^ names[1].keys())
    if alone:
        raise DataError(
            f"{first.name} and {second.name} are not of the same utterances: {len(alone)} are in one of them alone, "
            f"such as {alone[0]}; compare what was measured on one corpus"
        )
    other = next((name for name, text in names[0].items() if names[1][name] != text), None)
    if other is not None:
        raise DataError(
            f"{first.name} and {second.name} were scored against other references: of {other}, {names[0][other]!r:.80} and "
            f"{names[1][other]!r:.80}; normalise both alike (--normaliser)"
        )
    if [row.id for row in first.score.utterances] != [row.id for row in second.score.utterances]:
        raise ValueError("the systems have their utterances in different orders")


def _gains(rows: Sequence[tuple[str, int]], what: str) -> list[tuple[str, int]]:
    return [row for row in rows if (row[1] < 0) == (what == "utterances")]


def _losses(rows: Sequence[tuple[str, int]], what: str) -> list[tuple[str, int]]:
    return [row for row in reversed(rows) if (row[1] < 0) != (what == "utterances")]


def _listed(rows: Sequence[tuple[str, int]]) -> str:
    return ", ".join(f"{one_line(name)} ({n:+d})" for name, n in rows)


def _ends(rows: Sequence[tuple[str, int]], top: int) -> Sequence[tuple[str, int]]:
    return rows if len(rows) <= 2 * top else [*rows[:top], *rows[-top:]]


def _cell(name: str) -> str:
    return one_line(name).replace("|", "\\|")


def _p(value: float) -> str:
    if math.isnan(value):
        return "undefined"
    return "< 0.001" if value < 0.001 else f"= {value:.3f}"
