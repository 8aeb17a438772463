"""The errors on a development set as a function of the decoder's settings."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from asr.config import DecodingConfig
from asr.decoding import Decoder, Hypothesis, build_decoder
from asr.errors import UserError
from asr.package.load import ModelPackage
from asr.scoring.score import Score, score
from asr.text import Tokenizer
from asr.tuning.keys import Key
from asr.tuning.posteriors import Posteriors
from asr.tuning.trial import Settings


@dataclass(frozen=True)
class Decoded:
    """Utterances as one decoder reads them.

    Attributes
    ----------
    score
        Error rates.
    hypotheses
        By index of the utterance.
    decoder
        Signature of the decoder.
    elapsed_s
        Wall-clock time of decoding (s).
    """

    score: Score
    hypotheses: Mapping[int, Hypothesis]
    decoder: str
    elapsed_s: float


def check_decoder(config: DecodingConfig, package: ModelPackage) -> None:
    """Make sure that the settings make a decoder, before work is done for it.

    Raises
    ------
    UserError
        Such as a language model that is not there.
    """
    # The priors are not known yet.
    build_decoder(dataclasses.replace(config, prior_weight=0.0), package.tokenizer, package.folder)


def with_priors(config: DecodingConfig, keys: Sequence[Key], posteriors: Posteriors) -> DecodingConfig:
    """Return the configuration with the tokens' priors on the development set, where they are needed.

    They are taken anew where their weight is searched, and where it is above 0 and there are none.
    """
    is_searched = any(key.name == "prior_weight" for key in keys)
    if is_searched or (config.prior_weight > 0 and not config.priors):
        return dataclasses.replace(config, priors=posteriors.log_priors())
    return config


class Objective:
    """Decodes a development set with one setting after another; the network ran before.

    Parameters
    ----------
    posteriors
        What the network says of the development set.
    config
        Settings of the decoder that are not searched, and those to begin with.
    tokenizer
        The model's.
    folder
        The model package's, in which relative paths are looked up first.
    device
        Where the decoder gets its log-probabilities: that of the network, as in recognition.
    on_progress
        Called with the seconds of audio that were decoded.
    """

    def __init__(
        self,
        posteriors: Posteriors,
        config: DecodingConfig,
        tokenizer: Tokenizer,
        folder: Path,
        *,
        device: torch.device | str = "cpu",
        on_progress: Callable[[float], None] | None = None,
    ) -> None:
        self.posteriors = posteriors
        self.config = config
        self.tokenizer = tokenizer
        self.folder = folder
        self.device = torch.device(device)
        self._on_progress = on_progress

    @property
    def everything(self) -> tuple[int, ...]:
        """Indices of all utterances."""
        return tuple(range(len(self.posteriors.ids)))

    def part(self, n_utterances: int, seed: int) -> tuple[int, ...]:
        """Draw utterances; all of them where there are no more, or where 0 are asked for."""
        n_all = len(self.posteriors.ids)
        if not 0 < n_utterances < n_all:
            return self.everything
        drawn = np.random.default_rng(seed).choice(n_all, n_utterances, replace=False)
        return tuple(sorted(drawn.tolist()))

    def start(self, keys: Sequence[Key]) -> dict[str, float]:
        """Return the values to begin with."""
        return {key.name: float(getattr(self.config, key.name)) for key in keys}

    def with_settings(self, settings: Settings) -> DecodingConfig:
        """Return the configuration with the values of some fields replaced."""
        values = {name: type(getattr(self.config, name))(value) for name, value in settings.items()}
        return dataclasses.replace(self.config, **values)

    def decode(self, config: DecodingConfig, chosen: Sequence[int]) -> Decoded:
        """Decode utterances with the given settings, and score them as ``asr evaluate`` does.

        Raises
        ------
        ConfigError
            The settings make no decoder.
        """
        decoder = build_decoder(config, self.tokenizer, self.folder)
        started = time.monotonic()
        hypotheses: dict[int, Hypothesis] = {}
        for batch, log_probs, n_frames in self.posteriors.batches(chosen, config.jobs):
            found = decoder.decode(log_probs.to(self.device), n_frames.to(self.device))
            hypotheses.update(zip(batch, found, strict=True))
            if self._on_progress is not None:
                self._on_progress(self.posteriors.audio_s(batch))
        elapsed_s = time.monotonic() - started
        return Decoded(self._score(decoder, hypotheses), hypotheses, decoder.signature, elapsed_s)

    def before(self, config: DecodingConfig) -> Decoded | None:
        """Decode all with the settings that the package had; None where they make no decoder."""
        try:
            return self.decode(config, self.everything)
        except UserError:  # such as a language model that has moved
            return None

    def _score(self, decoder: Decoder, hypotheses: Mapping[int, Hypothesis]) -> Score:
        ids, texts = self.posteriors.ids, self.posteriors.texts
        references = {ids[index]: decoder.reference(texts[index]) for index in sorted(hypotheses)}
        return score(references, {ids[index]: hypothesis.text for index, hypothesis in hypotheses.items()})
