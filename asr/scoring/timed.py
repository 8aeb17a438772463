"""Texts with times: NIST's STM and CTM, and SegLST; words of a system go to the segments of a reference."""

from __future__ import annotations

import bisect
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from asr.errors import DataError

_IGNORED = "ignore_time_segment_in_scoring"


@dataclass(frozen=True)
class Timed:
    """A segment of a recording, or a word of it.

    Attributes
    ----------
    recording
        Its name, with the channel where there is one.
    speaker
        Who speaks, where that is known.
    start_s, end_s
        From and to when.
    text
        What is said; ``ignore_time_segment_in_scoring`` where it does not count.
    """

    recording: str
    speaker: str | None
    start_s: float
    end_s: float
    text: str


def read_stm(path: Path, content: str) -> Iterator[Timed]:
    """Yield the segments of an STM file: ``FILE CHANNEL SPEAKER START END [<LABEL>] TEXT``."""
    for where, line in _rows(path, content):
        cells = line.split(maxsplit=5)
        if len(cells) < 5:
            raise DataError(f"{where}: expected `FILE CHANNEL SPEAKER START END [<LABEL>] TEXT`, found {line[:60]!r}")
        text = cells[5] if len(cells) > 5 else ""
        if text.startswith("<") and ">" in text:
            text = text.partition(">")[2]
        if "{" in text:
            raise DataError(f"{where}: holds alternatives {{ ... }}, which are not supported; write one text a segment")
        start_s, end_s = _time(cells[3], where), _time(cells[4], where)
        yield Timed(f"{cells[0]} {cells[1]}", cells[2], start_s, _ordered(start_s, end_s, where), text.strip())


def read_ctm(path: Path, content: str) -> Iterator[Timed]:
    """Yield the words of a CTM file: ``FILE CHANNEL START DURATION WORD [CONFIDENCE ...]``."""
    for where, line in _rows(path, content):
        cells = line.split()
        if len(cells) < 5:
            raise DataError(f"{where}: expected `FILE CHANNEL START DURATION WORD [CONFIDENCE]`, found {line[:60]!r}")
        start_s = _time(cells[2], where)
        yield Timed(f"{cells[0]} {cells[1]}", None, start_s, start_s + _time(cells[3], where), cells[4])


def read_seglst(path: Path, rows: Sequence[Mapping[str, Any]]) -> Iterator[Timed]:
    """Yield the segments of SegLST: objects with ``session_id``, ``start_time``, ``end_time``, ``speaker`` and ``words``."""
    for number, row in enumerate(rows, start=1):
        where = f"{path}, item {number}"
        try:
            start_s, end_s = _time(row["start_time"], where), _time(row["end_time"], where)
            speaker, words = row.get("speaker"), row["words"]
            recording = str(row["session_id"])
        except KeyError as error:
            raise DataError(f"{where}: has no {error.args[0]}; expected session_id, start_time, end_time, words") from None
        if not isinstance(words, str):
            raise DataError(f"{where}: words is {words!r:.60}; expected a text")
        yield Timed(recording, None if speaker is None else str(speaker), start_s, _ordered(start_s, end_s, where), words)


def pair_by_time(
    references: Sequence[Timed], hypotheses: Sequence[Timed]
) -> tuple[dict[str, str], dict[str, str], dict[str, dict[str, Any]]]:
    """Give each word of a system to a segment of the reference.

    A word belongs to the segment of its recording that its middle lies in, and to the nearest where it lies in none; where
    segments overlap, to the one whose speaker is the word's, else to the one that began last. The words of a system's segment
    are spread evenly over its time. What lies in segments that do not count, does not count.

    Returns
    -------
    tuple
        References and hypotheses by names that are made of recording and time; ``speaker`` and ``duration_s`` of each.

    Raises
    ------
    DataError
        A recording of the system is not in the reference.
    """
    by_recording: defaultdict[str, list[Timed]] = defaultdict(list)
    for segment in references:
        by_recording[segment.recording].append(segment)
    recordings = {name: _Recording(segments) for name, segments in sorted(by_recording.items())}
    for one in hypotheses:
        if one.recording not in recordings:
            raise DataError(f"the recording {one.recording!r} is in no segment of the reference")
        recordings[one.recording].hear(one)
    counted = [pair for recording in recordings.values() for pair in recording.pairs() if pair[0].text.lower() != _IGNORED]
    names = _names([segment for segment, _ in counted])
    rows = list(zip(names, counted, strict=True))
    return (
        {name: segment.text for name, (segment, _) in rows},
        {name: heard for name, (_, heard) in rows},
        {name: _attributes(segment) for name, (segment, _) in rows},
    )


class _Recording:
    """The segments of a recording, in the order of their starts, and the words that were heard in each."""

    def __init__(self, segments: Sequence[Timed]) -> None:
        self._segments = sorted(segments, key=lambda one: (one.start_s, one.end_s))
        self._starts = [segment.start_s for segment in self._segments]
        self._longest_s = max(segment.end_s - segment.start_s for segment in segments)
        self._latest = list(accumulate(range(len(segments)), self._later))  # which of those so far ends last
        self._heard: list[list[tuple[tuple[float, float, int], str]]] = [[] for _ in segments]

    def hear(self, one: Timed) -> None:
        words = one.text.split()
        for index, word in enumerate(words):
            middle_s = one.start_s + (index + 0.5) * (one.end_s - one.start_s) / len(words)
            self._heard[self._at(middle_s, one.speaker)].append(((one.start_s, one.end_s, index), word))

    def pairs(self) -> Iterator[tuple[Timed, str]]:
        for segment, heard in zip(self._segments, self._heard, strict=True):
            yield segment, " ".join(word for _, word in sorted(heard, key=lambda item: item[0]))

    def _later(self, one: int, other: int) -> int:
        return max(one, other, key=lambda index: self._segments[index].end_s)

    def _at(self, time_s: float, speaker: str | None) -> int:
        n_begun = bisect.bisect_right(self._starts, time_s)
        first = bisect.bisect_left(self._starts, time_s - self._longest_s, hi=n_begun)
        around = [index for index in range(first, n_begun) if self._segments[index].end_s >= time_s]
        around = [index for index in around if self._segments[index].text.lower() != _IGNORED] or around
        if around:
            same = (index for index in around if speaker is not None and self._segments[index].speaker == speaker)
            return next(same, around[-1])
        if n_begun == 0:
            return 0
        before = self._latest[n_begun - 1]
        if n_begun < len(self._starts) and self._starts[n_begun] - time_s < time_s - self._segments[before].end_s:
            return n_begun
        return before


def _attributes(segment: Timed) -> dict[str, Any]:
    speaker = {"speaker": segment.speaker} if segment.speaker else {}
    return {**speaker, "duration_s": segment.end_s - segment.start_s}


def _names(segments: Sequence[Timed]) -> list[str]:
    names: list[str] = []
    seen: defaultdict[str, int] = defaultdict(int)
    for segment in segments:
        name = f"{segment.recording} {segment.start_s:.2f}-{segment.end_s:.2f}"
        seen[name] += 1
        names.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return names


def _rows(path: Path, content: str) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(content.split("\n"), start=1):
        if line.strip() and not line.startswith(";;"):
            yield f"{path}, line {number}", line


def _time(value: object, where: str) -> float:
    try:
        time_s = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        time_s = math.nan
    if not 0 <= time_s < math.inf:
        raise DataError(f"{where}: {value!r:.40} is no time; expected seconds, not below 0")
    return time_s


def _ordered(start_s: float, end_s: float, where: str) -> float:
    if end_s < start_s:
        raise DataError(f"{where}: ends at {end_s:g} s, before it begins at {start_s:g} s")
    return end_s
