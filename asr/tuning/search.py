"""The order in which settings are tried.

1. *Explore*: a few settings spread over the space, then one at a time where a Gaussian process expects most, on a part of the
   development set; it ends when the next trial is expected to gain no more than a five-hundredth of the errors.
2. *Beam*: the best of them on all utterances with other beams. Since a beam costs time, the smallest is taken that gets at most
   a thousandth more of the words wrong than the best.
3. *Confirm*: with that beam on all utterances, the next best, and what the process makes of all trials together.
4. *Check*: a step up and down each key from the best, over and over until no step helps. It has the trials that others left.

Which of two settings is better is decided by true decodes of all utterances alone.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from asr.tuning.keys import BEAM, Key, Point
from asr.tuning.surface import Surface
from asr.tuning.surrogate import GaussianProcess, spread
from asr.tuning.trial import Settings, Trial

Measure = Callable[[Settings, bool], Trial]
"""Decodes all utterances, or the part on which settings are explored."""

STAGES = ("explore", "beam", "confirm", "check")
# Expected improvement, as a share of the errors, below which a stage ends.
_LEAST_GAIN = 0.002
# Word error rates this much apart (of all words) are worth no larger beam.
_BEAM_TOLERANCE = 0.001
_CHECK_STEP = 0.05
_EXPLORED_SHARE = 0.7
_CONFIRMED_AT_ONCE = 3
_CANDIDATES, _NEAR_CANDIDATES = 1024, 256
_NEAR_STEPS = (0.1, 0.03)


class Search:
    """A search with a bound on the number of trials; the same seed gives the same trials.

    Parameters
    ----------
    keys
        What is searched.
    start
        Value of each key to begin with.
    measure
        Makes a trial.
    n_trials
        Trials at most.
    seed
        Decides which settings are considered.
    has_part
        Whether there is a part to explore on; otherwise all utterances serve for everything.
    on_trial
        Called after each trial.

    Attributes
    ----------
    trials
        What was tried, in order; of use after an interruption as well.
    """

    def __init__(
        self,
        keys: Sequence[Key],
        start: Settings,
        measure: Measure,
        *,
        n_trials: int,
        seed: int,
        has_part: bool,
        on_trial: Callable[[Trial], None] | None = None,
    ) -> None:
        self.keys = list(keys)
        self.trials: list[Trial] = []
        self._space = [key for key in keys if key.name != BEAM]
        self._start = {key.name: key.rounded(start[key.name]) for key in keys}
        self._measure = measure
        self._on_trial = on_trial
        self._has_part = has_part
        self._random = np.random.default_rng(seed)
        self._beams = _beams(next((key for key in keys if key.name == BEAM), None), self._start.get(BEAM, 0))
        self._budget = self._divided(n_trials)
        self._stage = STAGES[0]
        # What the next trial is made with, beside its point.
        self._whole, self._beam = True, self._start.get(BEAM)

    def _divided(self, n_trials: int) -> Counter[str]:
        """Divide the trials among the stages."""
        if not self._space:
            return Counter({"beam": n_trials})
        n_beams = len(self._beams) + 1 if self._beams else 0
        shares = Counter({"beam": min(n_beams, n_trials // 6), "check": min(2 * len(self._space), n_trials // 5)})
        rest = n_trials - shares.total()
        shares["explore"] = min(round(_EXPLORED_SHARE * rest), rest - 1)
        shares["confirm"] = rest - shares["explore"]
        return shares

    @property
    def n_trials(self) -> int:
        """Trials that were made and may still be made."""
        return len(self.trials) + self._budget.total()

    @property
    def remaining(self) -> tuple[int, int]:
        """Trials that may still be made, on the part and on all utterances."""
        n_on_part = self._budget["explore"] if self._has_part else 0
        return n_on_part, self._budget.total() - n_on_part

    @property
    def best(self) -> Trial:
        """The best trial on all utterances, or where none was made yet, on the part."""
        trials = [trial for trial in self.trials if trial.whole] or self.trials
        best = min(trials, key=lambda trial: trial.rank(self.keys))
        if BEAM not in best.settings:
            return best
        others = [trial for trial in trials if self.point(trial) == self.point(best)]
        enough = best.words.errors + _BEAM_TOLERANCE * best.words.reference
        return min((trial for trial in others if trial.words.errors <= enough), key=lambda trial: trial.settings[BEAM])

    def point(self, trial: Trial) -> Point:
        """Return a trial's values, the beam's left out."""
        return self._point_of(trial.settings)

    def _point_of(self, settings: Settings) -> Point:
        return tuple(settings[key.name] for key in self._space)

    def run(self) -> Trial:
        """Make the trials and return the best."""
        for stage, trials in zip(STAGES, (self._explore(), self._widen(), self._confirm(), self._check()), strict=True):
            self._stage = stage
            while self._budget[stage] > 0 and next(trials, None) is not None:
                pass
            left, self._budget[stage] = self._budget[stage], 0
            self._budget["check"] += left if stage != "check" and self._space else 0
        return self.best

    def _try(self, point: Sequence[float]) -> Trial:
        settings = {key.name: value for key, value in zip(self._space, point, strict=True)}
        if self._beam is not None:
            settings[BEAM] = self._beam
        trial = self._measure(settings, self._whole)
        self.trials.append(trial)
        self._budget[self._stage] -= 1
        if self._on_trial is not None:
            self._on_trial(trial)
        return trial

    def _tried(self) -> set[Point]:
        """Return what was tried of the present utterances with the present beam."""
        here = [trial for trial in self.trials if trial.whole == self._whole and trial.settings.get(BEAM) == self._beam]
        return {self.point(trial) for trial in here}

    def _explore(self) -> Iterator[Trial]:
        self._whole = not self._has_part
        for point in self._design():
            yield self._try(point)
        yield from self._improve()

    def _widen(self) -> Iterator[Trial]:
        """Double the beam while that helps, and where it does not, halve it while that costs nothing."""
        self._whole = True
        if BEAM not in self._start:
            return
        point = self.point(self.best) if self.trials else ()
        first = next((trial for trial in self.trials if trial.whole and self.point(trial) == point), None)
        if first is None:
            first = self._try(point)
            yield first
        tolerance = _BEAM_TOLERANCE * first.words.reference
        here = first
        for beam in (beam for beam in self._beams if beam > first.settings[BEAM]):
            self._beam = beam
            wider = self._try(point)
            yield wider
            if wider.words.errors >= here.words.errors - tolerance:
                break
            here = wider
        for beam in (beam for beam in reversed(self._beams) if beam < first.settings[BEAM] and here is first):
            self._beam = beam
            narrower = self._try(point)
            yield narrower
            if narrower.words.errors > first.words.errors + tolerance:
                break

    def _confirm(self) -> Iterator[Trial]:
        self._whole, self._beam = True, self._chosen_beam()
        ranked = sorted(self.trials, key=lambda trial: trial.rank(self.keys))
        explored = [self.point(trial) for trial in ranked if trial.whole != self._has_part]
        for point in dict.fromkeys(explored[:_CONFIRMED_AT_ONCE] or self._design()):
            if point not in self._tried():
                yield self._try(point)
        yield from self._improve()

    def _chosen_beam(self) -> float | None:
        has_beams = self.trials and BEAM in self._start
        return self.best.settings[BEAM] if has_beams else self._start.get(BEAM)

    def _check(self) -> Iterator[Trial]:
        before = math.inf
        while self.best.words.errors < before:
            before = self.best.words.errors
            for place, key in enumerate(self._space):
                for step in (_CHECK_STEP, -_CHECK_STEP):
                    best, self._beam = self.point(self.best), self._chosen_beam()
                    value = key.value(key.share(best[place]) + step)
                    point = (*best[:place], value, *best[place + 1 :])
                    if point not in self._tried():
                        yield self._try(point)

    def _design(self) -> list[Point]:
        """Return the setting to begin with, and some that are spread over the space."""
        design = spread(2 * len(self._space) + 2, len(self._space), float(self._random.random()))
        return list(dict.fromkeys([self._point_of(self._start), *map(self._values, design)]))

    def _improve(self) -> Iterator[Trial]:
        """Try what the Gaussian process expects most of, until that is too little."""
        while self.trials:
            process = Surface.fit(self.trials, self._space, self._whole, self._beam).process
            shares, points = self._candidates(process)
            gains = process.expected_improvement(shares)
            if not points or gains.max() < _LEAST_GAIN:
                return
            yield self._try(points[int(gains.argmax())])

    def _candidates(self, process: GaussianProcess) -> tuple[np.ndarray, list[Point]]:
        """Return settings that were not tried yet, ``(candidate, key)`` in [0, 1] and in their own units."""
        n_keys = len(self._space)
        everywhere = spread(_CANDIDATES, n_keys, float(self._random.random()))
        lowest = process.points[process.predict(process.points)[0].argmin()]
        near = [lowest + step * self._random.standard_normal((_NEAR_CANDIDATES, n_keys)) for step in _NEAR_STEPS]
        tried = self._tried()
        rows = np.clip(np.concatenate([everywhere, *near]), 0, 1)
        points = [point for point in dict.fromkeys(map(self._values, rows)) if point not in tried]
        return np.array([self._shares_of(point) for point in points]).reshape(-1, n_keys), points

    def _values(self, shares: Sequence[float] | np.ndarray) -> Point:
        return tuple(key.value(float(share)) for key, share in zip(self._space, shares, strict=True))

    def _shares_of(self, point: Point) -> list[float]:
        return [key.share(value) for key, value in zip(self._space, point, strict=True)]


def _beams(key: Key | None, start: float) -> list[float]:
    """Return the beams to try beside the first one: halves and doubles of it within the bounds, ascending."""
    if key is None:
        return []
    steps = (start * 2.0**power for power in range(-14, 15) if power)
    return sorted({float(round(beam)) for beam in steps if key.low <= round(beam) <= key.high})
