"""A tuning from a model package and a development set to what was found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from asr.config import DecodingConfig
from asr.package.load import ModelPackage
from asr.tuning.display import TuningDisplay
from asr.tuning.keys import Key
from asr.tuning.objective import Decoded, Objective, with_priors
from asr.tuning.posteriors import Posteriors
from asr.tuning.tuner import Tuning, tune

if TYPE_CHECKING:
    from lhotse import CutSet


@dataclass(frozen=True)
class Limits:
    """How long a tuning searches, and what it may take.

    Attributes
    ----------
    n_trials
        Decodes at most.
    n_part
        Utterances on which settings are explored before the best are tried on all; 0 explores on all.
    seed
        The same seed tries the same settings.
    batch_s
        Audio recognised at once (s).
    cache_bytes
        Memory for the network's output; what takes more goes to a temporary file.
    """

    n_trials: int
    n_part: int
    seed: int
    batch_s: float
    cache_bytes: int


@dataclass(frozen=True)
class Tuned:
    """What became of a tuning.

    Attributes
    ----------
    package
        The model, as it was.
    manifests
        Names of what it was tuned on.
    posteriors
        What its network says of that.
    before
        What the package's own settings gave; None where they could not be used.
    tuning
        What the search found.
    """

    package: ModelPackage
    manifests: Sequence[str]
    posteriors: Posteriors
    before: Decoded | None
    tuning: Tuning


def tune_package(
    package: ModelPackage,
    decoding: DecodingConfig,
    keys: Sequence[Key],
    cuts: CutSet,
    manifests: Sequence[str],
    limits: Limits,
    *,
    device: str = "cpu",
) -> Tuned:
    """Search the best settings of a package's decoder, and show how far that is.

    Parameters
    ----------
    package
        The model; nothing is written into it.
    decoding
        Settings that are not searched, and those to begin with.
    keys
        What is searched.
    cuts, manifests
        The development set, and the names of its manifests.
    limits
        How long it searches, and what it may take.
    device
        Where the network runs.

    Raises
    ------
    ConfigError
        The settings make no decoder.
    DataError
        No audio can be read.
    KeyboardInterrupt
        As :func:`asr.tuning.tuner.tune`.
    """
    with TuningDisplay(sum(cut.duration for cut in cuts)) as display:
        posteriors = Posteriors.compute(
            cuts, package.model, batch_s=limits.batch_s, limit_bytes=limits.cache_bytes, on_progress=display.advance
        )
        display.computed(posteriors)
        objective = Objective(
            posteriors,
            with_priors(decoding, keys, posteriors),
            package.tokenizer,
            package.folder,
            device=device,
            on_progress=display.advance,
        )
        before = objective.before(package.config.decoding)
        tuning = tune(
            objective,
            keys,
            n_trials=limits.n_trials,
            n_part=limits.n_part,
            seed=limits.seed,
            on_plan=display.plan,
            on_trial=display.trial,
        )
    return Tuned(package, manifests, posteriors, before, tuning)
