"""From the objective to the settings that are worth keeping."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from asr.config import DecodingConfig
from asr.decoding.confidence import Calibration, fit_calibration
from asr.decoding.words import evidence_of
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
    everything, part = objective.everything, objective.part(n_part, seed)
    kept: dict[int, Decoded] = {}

    def measure(settings: Settings, whole: bool) -> Trial:
        chosen = everything if whole else part
        audio_s, part_s = (objective.posteriors.audio_s(indices) for indices in (everything, part))
        n_on_part, n_on_all = search.remaining
        if on_plan is not None:
            on_plan(n_on_part * part_s + n_on_all * audio_s)
        decoded = objective.decode(objective.with_settings(settings), chosen)
        trial = Trial(
            number=len(search.trials) + 1,
            settings=settings,
            whole=whole,
            n_utterances=len(chosen),
            audio_s=audio_s if whole else part_s,
            words=decoded.score.wer.counts,
            characters=decoded.score.cer.counts,
            elapsed_s=decoded.elapsed_s,
            decoder=decoded.decoder,
        )
        kept[trial.number] = decoded
        return trial

    def after(trial: Trial) -> None:
        # All but the best, and what may become the best by its smaller beam, takes memory in vain.
        best = search.point(search.best)
        for one in search.trials:
            if search.point(one) != best:
                kept.pop(one.number, None)
        if on_trial is not None:
            on_trial(trial, search)

    search = Search(
        keys,
        objective.start(keys),
        measure,
        n_trials=n_trials,
        seed=seed,
        has_part=part != everything,
        on_trial=after,
    )
    interrupted = False
    try:
        search.run()
    except KeyboardInterrupt:
        if not search.trials:
            raise
        interrupted = True
    best = search.best
    decoded = kept[best.number]
    calibration = calibrated(objective, decoded)
    config = dataclasses.replace(
        objective.with_settings(best.settings),
        confidence_scale=round(calibration.scale, 4),
        confidence_length=round(calibration.length, 4),
        confidence_bias=round(calibration.bias, 4),
    )
    return Tuning(config, tuple(keys), tuple(search.trials), best, decoded, interrupted)


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
