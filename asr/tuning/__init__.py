"""Decoding settings found on a development set, and written into the model package."""

from __future__ import annotations

from asr.tuning.keys import Key, searched_keys
from asr.tuning.objective import Objective, check_decoder, with_priors
from asr.tuning.posteriors import Posteriors
from asr.tuning.trial import Trial
from asr.tuning.tuner import Tuning, tune

__all__ = ["Key", "Objective", "Posteriors", "Trial", "Tuning", "check_decoder", "searched_keys", "tune", "with_priors"]
