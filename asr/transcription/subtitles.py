"""Words with times to subtitles that a person can read.

Where cues and lines end is found by dynamic programming over all places between two words, so that the whole is best: breaks at
pauses and not behind an article or a preposition, time enough to read, no short word by itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from asr.decoding.hypothesis import Word
from asr.errors import ConfigError

# Words that belong to the next one: a reader trips over a line that ends in one of them.
_LEANING = """
    a an the this that these those my your his her its our their no every each some any such not very so too
    in on at to of by for from with into onto upon over under about between through without within
    and but or nor if as than when while because who which whose
    i he she it we they you is are was were be been am has have had do does did
    will would shall should can could may might must mr mrs dr st
"""
_LEANS_ON = frozenset(_LEANING.split())
_WIDOW = 8  # characters; a word of at least so many may stand alone

# What a cue costs: the unit is the price of one more cue.
_PAUSE_S = 0.5  # a pause as long as this makes a break free
_BREAK_IN_FLOW = 1.0
_BREAK_BEHIND_LEANING = 1.5
_ALONE = 2.0
_FULLNESS = 0.5
_PAUSE_INSIDE_PER_S = 2.0
_LONGEST_PAUSE_INSIDE_S = 3.0
_HASTE = 4.0
_WORST_HASTE = 5.0

_FLICKER_S = 0.5  # a shorter gap between two cues is closed, up to the least gap


@dataclass(frozen=True)
class SubtitleLayout:
    """What subtitles may look like.

    Attributes
    ----------
    max_line_length
        Most characters in a line, 10 to 200. Only a single word may be longer.
    max_lines
        Most lines shown at once, 1 to 10.
    reading_speed
        Characters a second that can be read, 5 to 100. Where more are spoken, a cue is shown as long as there is room.
    min_duration_s, max_duration_s
        Least and greatest time that a cue is shown (s). It is shorter only where the next one has to begin.
    gap_s
        Time between two cues (s), so that the eye sees the change.

    Raises
    ------
    ConfigError
        For a value out of its range.
    """

    max_line_length: int = 42
    max_lines: int = 2
    reading_speed: float = 20.0
    min_duration_s: float = 1.0
    max_duration_s: float = 7.0
    gap_s: float = 0.08

    def __post_init__(self) -> None:
        ranges = {"max_line_length": (10, 200), "max_lines": (1, 10), "reading_speed": (5, 100), "gap_s": (0, 1)}
        for name, (least, most) in ranges.items():
            value = getattr(self, name)
            if not least <= value <= most:
                raise ConfigError(f"{name}={value:g}: subtitles need {least} to {most}")
        if not 0 < self.min_duration_s < self.max_duration_s < math.inf:
            raise ConfigError(
                f"min_duration_s={self.min_duration_s:g}, max_duration_s={self.max_duration_s:g}: the first must be above "
                "0 and below the second"
            )


@dataclass(frozen=True)
class Cue:
    """Text and the time for which it is shown.

    Attributes
    ----------
    start_ms, end_ms
        Milliseconds from the start of the recording; ``start_ms < end_ms``.
    lines
        The lines, from top to bottom.
    """

    start_ms: int
    end_ms: int
    lines: tuple[str, ...]


def make_cues(words: Sequence[Word], layout: SubtitleLayout) -> list[Cue]:
    """Make subtitles of words.

    Parameters
    ----------
    words
        In the order of time.
    layout
        What the subtitles may look like.

    Returns
    -------
    list of Cue
        In the order of time, none before the end of the one before it; their words are the words given.

    Examples
    --------
    >>> words = [Word("good", 0.5, 0.8, 1.0), Word("morning", 0.8, 1.3, 1.0), Word("sir", 4.0, 4.2, 1.0)]
    >>> for cue in make_cues(words, SubtitleLayout()):
    ...     print(cue.start_ms, cue.end_ms, cue.lines)
    500 1500 ('good morning',)
    4000 5000 ('sir',)
    """
    ends = best_breaks(len(words), _cue_cost(words, layout))
    cues: list[Cue] = []
    previous_end_ms = 0
    for start, end in pairwise([0, *ends]):
        shown = words[start:end]
        start_ms = max(previous_end_ms, round(1000 * shown[0].start_s))
        end_s = _end_s(shown, words[end].start_s if end < len(words) else math.inf, layout)
        previous_end_ms = max(start_ms + 1, round(1000 * end_s))
        cues.append(Cue(start_ms, previous_end_ms, break_lines([word.text for word in shown], layout)))
    return cues


def break_lines(words: Sequence[str], layout: SubtitleLayout) -> tuple[str, ...]:
    """Break the words of a cue into as few lines as they need, of about the same length."""
    lengths = _Lengths(words)

    def cost(start: int, end: int) -> float:
        length = lengths.of(start, end)
        if length > layout.max_line_length and end - start > 1:
            return math.inf
        last = end == len(words)
        alone = end - start == 1 and length < _WIDOW and len(words) > 1
        price = 10.0 + (length / layout.max_line_length) ** 2
        return price + 0.3 * (not last and words[end - 1] in _LEANS_ON) + 1.0 * alone

    ends = best_breaks(len(words), cost)
    return tuple(" ".join(words[start:end]) for start, end in pairwise([0, *ends]))


def best_breaks(n: int, cost: Callable[[int, int], float]) -> list[int]:
    """Divide ``n`` things in a row into runs of least total cost.

    Parameters
    ----------
    n
        How many there are.
    cost
        Cost of the run from one index up to another, which it leaves out; infinite where the run is too long, and then so for
        all that are longer. A run of one is never too long.

    Returns
    -------
    list of int
        Where each run ends.
    """
    best = [0.0, *[math.inf] * n]
    previous = [0] * (n + 1)
    for start in range(n):
        for end in range(start + 1, n + 1):
            price = cost(start, end)
            if price == math.inf:
                break
            if best[start] + price < best[end]:
                best[end], previous[end] = best[start] + price, start
    ends: list[int] = []
    end = n
    while end:
        ends.append(end)
        end = previous[end]
    return ends[::-1]


class _Lengths:
    """Lengths of runs of words joined by spaces."""

    def __init__(self, words: Iterable[str]) -> None:
        self._sums = [0, *accumulate(len(word) + 1 for word in words)]

    def of(self, start: int, end: int) -> int:
        return self._sums[end] - self._sums[start] - 1


def _cue_cost(words: Sequence[Word], layout: SubtitleLayout) -> Callable[[int, int], float]:
    """Return what it costs to show the words from one index up to another as one cue."""
    lengths = _Lengths(word.text for word in words)
    furthest = _furthest(lengths, len(words), layout)
    pauses = [max(0.0, after.start_s - before.end_s) for before, after in pairwise(words)]
    inside = [0.0, *accumulate(_PAUSE_INSIDE_PER_S * max(0.0, pause - _PAUSE_S) for pause in pauses)]
    n_too_long = [0, *accumulate(pause >= _LONGEST_PAUSE_INSIDE_S for pause in pauses)]
    capacity = layout.max_lines * layout.max_line_length

    def cost(start: int, end: int) -> float:
        n_words, length, last = end - start, lengths.of(start, end), end == len(words)
        first_s = words[start].start_s
        too_wide = end > furthest[start]
        too_late = words[end - 1].end_s - first_s > layout.max_duration_s or n_too_long[end - 1] > n_too_long[start]
        if n_words > 1 and (too_wide or too_late):
            return math.inf
        needed_s = max(layout.min_duration_s, length / layout.reading_speed)
        room_s = layout.max_duration_s if last else min(layout.max_duration_s, words[end].start_s - layout.gap_s - first_s)
        haste = min(_WORST_HASTE, needed_s / room_s - 1) if room_s > 0 else _WORST_HASTE
        flow = 0.0 if last else max(0.0, 1 - pauses[end - 1] / _PAUSE_S)
        behind = _BREAK_BEHIND_LEANING if words[end - 1].text in _LEANS_ON else 0.0
        return (
            1.0
            + flow * (_BREAK_IN_FLOW + behind)
            + _ALONE * (n_words == 1 and length < _WIDOW)
            + _FULLNESS * (length / capacity) ** 2
            + inside[end - 1]
            - inside[start]
            + _HASTE * max(0.0, haste)
        )

    return cost


def _furthest(lengths: _Lengths, n: int, layout: SubtitleLayout) -> list[int]:
    """For each word, where the longest cue ends that begins with it."""
    line_ends = [0] * n
    end = 0
    for start in range(n):
        end = max(end, start + 1)
        while end < n and lengths.of(start, end + 1) <= layout.max_line_length:
            end += 1
        line_ends[start] = end
    furthest = list(range(n))
    for _ in range(layout.max_lines):
        furthest = [line_ends[place] if place < n else n for place in furthest]
    return furthest


def _end_s(shown: Sequence[Word], next_s: float, layout: SubtitleLayout) -> float:
    """Until when a cue is shown: as long as it is spoken and takes to read, but not into the next one."""
    start_s = shown[0].start_s
    needed_s = max(layout.min_duration_s, (sum(len(word.text) + 1 for word in shown) - 1) / layout.reading_speed)
    wanted_s = min(max(shown[-1].end_s, start_s + needed_s), start_s + layout.max_duration_s)
    limit_s = next_s - min(layout.gap_s, (next_s - start_s) / 2)
    if limit_s - wanted_s < _FLICKER_S:
        wanted_s = limit_s
    return min(wanted_s, start_s + layout.max_duration_s)
