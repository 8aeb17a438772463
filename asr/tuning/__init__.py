"""Decoding settings found on a development set, and written into the model package."""

from __future__ import annotations

from asr.tuning.keys import Key, searched_keys
from asr.tuning.objective import Objective, check_decoder, with_priors
from asr.tuning.posteriors import Posteriors
from asr.tuning.run import Limits, Tuned, tune_package
from asr.tuning.trial import Trial
from asr.tuning.tuner import Tuning, tune

__all__ = [
    "Key",
    "Limits",
    "Objective",
    "Posteriors",
    "Trial",
    "Tuned",
    "Tuning",
    "check_decoder",
    "searched_keys",
    "tune",
    "tune_package",
    "with_priors",
]
