"""From the objective to the settings that are worth keeping."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from asr.config import DecodingConfig
from asr.decoding.words.confidence import Calibration, fit_calibration
from asr.decoding.words.timed_words import evidence_of
from asr.scoring.calibration import words_correct
from asr.tuning.keys import Key
from asr.tuning.objective import Decoded, Objective
from asr.tuning.search import Search
from asr.tuning.trial import Settings, Trial


@dataclass(frozen=True)
class Tuning:
    """What a search found.

    Attributes
    ----------
    config
        The settings of the best trial, with the calibration of confidences that belongs to them.
    keys
        What was searched.
    trials
        What was tried, in order.
    best
        The best of them.
    decoded
        What it wrote.
    interrupted
        Whether the search was stopped before its end.
    """

    config: DecodingConfig
    keys: tuple[Key, ...]
    trials: tuple[Trial, ...]
    best: Trial
    decoded: Decoded
    interrupted: bool


def tune(
    objective: Objective,
    keys: Sequence[Key],
    *,
    n_trials: int,
    n_part: int,
    seed: int,
    on_plan: Callable[[float], None] | None = None,
    on_trial: Callable[[Trial, Search], None] | None = None,
) -> Tuning:
    """Search the best settings.

    Parameters
    ----------
    objective
        Decodes the development set.
    keys
        What is searched.
    n_trials
        Decodes at most.
    n_part
        Utterances on which settings are explored before the best are tried on all; 0 explores on all.
    seed
        Decides which utterances these are, and which settings are considered.
    on_plan
        Called before each trial with the seconds of audio that the rest of the search decodes at most.
    on_trial
        Called after each trial.

    Raises
    ------
    ConfigError
        The settings make no decoder.
    KeyboardInterrupt
        Where the search was interrupted before anything was tried. Later on an interruption ends it, and the best setting so
        far is the result.
    """
    trials = _Trials(objective, keys, n_trials=n_trials, n_part=n_part, seed=seed, on_plan=on_plan, on_trial=on_trial)
    interrupted = trials.run()
    best, decoded = trials.best
    config = with_calibration(objective.with_settings(best.settings), calibrated(objective, decoded))
    return Tuning(config, tuple(keys), tuple(trials.search.trials), best, decoded, interrupted)


class _Trials:
    """The trials of a search, and what the best of them wrote; the parameters are those of :func:`tune`."""

    def __init__(
        self,
        objective: Objective,
        keys: Sequence[Key],
        *,
        n_trials: int,
        n_part: int,
        seed: int,
        on_plan: Callable[[float], None] | None,
        on_trial: Callable[[Trial, Search], None] | None,
    ) -> None:
        self._objective = objective
        self._everything, self._part = objective.everything, objective.part(n_part, seed)
        self._on_plan, self._on_trial = on_plan, on_trial
        self._kept: dict[int, Decoded] = {}
        self.search = Search(
            keys,
            objective.start(keys),
            self._measure,
            n_trials=n_trials,
            seed=seed,
            has_part=self._part != self._everything,
            on_trial=self._after,
        )

    def run(self) -> bool:
        """Make the trials; return whether they were interrupted, which before the first one is an error."""
        try:
            self.search.run()
        except KeyboardInterrupt:
            if not self.search.trials:
                raise
            return True
        return False

    @property
    def best(self) -> tuple[Trial, Decoded]:
        """The best trial, and what it wrote."""
        best = self.search.best
        return best, self._kept[best.number]

    def _measure(self, settings: Settings, whole: bool) -> Trial:
        self._plan()
        chosen = self._everything if whole else self._part
        decoded = self._objective.decode(self._objective.with_settings(settings), chosen)
        trial = Trial(
            number=len(self.search.trials) + 1,
            settings=settings,
            whole=whole,
            n_utterances=len(chosen),
            audio_s=self._objective.posteriors.audio_s(chosen),
            words=decoded.score.wer.counts,
            characters=decoded.score.cer.counts,
            elapsed_s=decoded.elapsed_s,
            decoder=decoded.decoder,
        )
        self._kept[trial.number] = decoded
        return trial

    def _plan(self) -> None:
        """Say how much audio is still to be decoded, at most."""
        if self._on_plan is not None:
            part_s, all_s = (self._objective.posteriors.audio_s(indices) for indices in (self._part, self._everything))
            n_on_part, n_on_all = self.search.remaining
            self._on_plan(n_on_part * part_s + n_on_all * all_s)

    def _after(self, trial: Trial) -> None:
        # All but the best, and what may become the best by its smaller beam, takes memory in vain.
        best = self.search.point(self.search.best)
        for one in self.search.trials:
            if self.search.point(one) != best:
                self._kept.pop(one.number, None)
        if self._on_trial is not None:
            self._on_trial(trial, self.search)


def with_calibration(config: DecodingConfig, calibration: Calibration) -> DecodingConfig:
    """Return the settings with another calibration of confidences."""
    return dataclasses.replace(
        config,
        confidence_scale=round(calibration.scale, 4),
        confidence_length=round(calibration.length, 4),
        confidence_bias=round(calibration.bias, 4),
    )


def calibrated(objective: Objective, decoded: Decoded) -> Calibration:
    """Fit the confidences of the words to whether they are right; without words, what the configuration had before."""
    references = {row.id: row.reference for row in decoded.score.utterances}
    evidence: list[np.ndarray] = []
    correct: list[bool] = []
    for index, hypothesis in decoded.hypotheses.items():
        row = torch.from_numpy(np.array(objective.posteriors.rows[index]))
        evidence.append(evidence_of(hypothesis, row, objective.tokenizer))
        correct += words_correct(references[objective.posteriors.ids[index]], hypothesis.text)
    if not correct:
        return Calibration.configured(objective.config)
    return fit_calibration(np.concatenate(evidence), correct)
