"""One setting of a decoder that was tried, and how it compares with another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from asr.scoring.counts import Counts
from asr.tuning.keys import BEAM, Key

Settings = Mapping[str, float]
"""Values by field of :class:`asr.config.DecodingConfig`."""


@dataclass(frozen=True)
class Trial:
    """A true decode of the development set, or of the part of it on which settings are explored.

    Attributes
    ----------
    number
        Counted from 1.
    settings
        Value of each searched key.
    whole
        Whether all utterances were decoded.
    n_utterances, audio_s
        How many were, and their length (s).
    words, characters
        Error counts.
    elapsed_s
        Wall-clock time of decoding (s).
    decoder
        Signature of the decoder.
    """

    number: int
    settings: Settings
    whole: bool
    n_utterances: int
    audio_s: float
    words: Counts
    characters: Counts
    elapsed_s: float
    decoder: str

    @property
    def wer(self) -> float:
        """Word error rate, as a fraction; of an empty reference, the number of errors."""
        return self.words.errors / max(1, self.words.reference)

    def rank(self, keys: Sequence[Key]) -> tuple[float, ...]:
        """Return what a better trial of the same utterances has less of: word errors, character errors, weight, beam."""
        weight = sum(abs(self.settings[key.name]) / (key.high - key.low) for key in keys if key.name != BEAM)
        return self.words.errors, self.characters.errors, weight, self.settings.get(BEAM, 0)

    def line(self, n_trials: int) -> str:
        """Return the trial as one line."""
        counts = " ".join(f"{letter}={value}" for letter, value in self.words.to_mapping().items())
        cer = self.characters.errors / max(1, self.characters.reference)
        values = " ".join(f"{name}={value:g}" for name, value in self.settings.items())
        return (
            f"{self.number:{len(str(n_trials))}}/{n_trials}  {'all ' if self.whole else 'part'}  WER {100 * self.wer:.2f} %  "
            f"{counts}  CER {100 * cer:.2f} %  {self.elapsed_s:.1f} s  {values}"
        )

    def to_mapping(self) -> dict[str, Any]:
        """Return one line of ``tuning.jsonl``."""
        return {
            "trial": self.number,
            "settings": dict(self.settings),
            "utterances": self.n_utterances,
            "all": self.whole,
            "wer": round(self.wer, 6),
            "words": self.words.to_mapping(),
            "characters": self.characters.to_mapping(),
            "elapsed_s": round(self.elapsed_s, 3),
            "audio_s": round(self.audio_s, 3),
            "decoder": self.decoder,
        }
