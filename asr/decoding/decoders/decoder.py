"""What every decoder offers."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch

from asr.decoding.hypothesis import Hypothesis
from asr.text import Tokenizer


class Decoder(ABC):
    """Turns the network's log-probabilities into text.

    Parameters
    ----------
    tokenizer
        The inventory whose indices are the last dimension of the log-probabilities.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer

    @property
    @abstractmethod
    def signature(self) -> str:
        """The settings on which the text depends, in one line without spaces."""

    @property
    def writes_words(self) -> bool:
        """Whether the text holds words of the language; without a lexicon, a network of phones writes phones."""
        return self.tokenizer.writes_words

    @property
    def vocabulary(self) -> frozenset[str] | None:
        """The words that it can write, where they are a closed list."""
        return None

    def reference(self, text: str) -> str:
        """Return what a perfect hypothesis would say for this transcript, for scoring to compare with."""
        return self.tokenizer.normalise(text) if self.writes_words else self.tokenizer.reference(text)

    @abstractmethod
    def decode(self, log_probs: torch.Tensor, n_frames: torch.Tensor) -> list[Hypothesis]:
        """Return the best hypothesis of each utterance.

        Parameters
        ----------
        log_probs
            ``(batch, frame, token)`` natural logarithms.
        n_frames
            ``(batch,)`` integers, frames of each utterance; what lies beyond is never looked at. Zero gives empty text.

        Raises
        ------
        ValueError
            Where the shapes do not fit each other or the tokenizer.
        """

    def check(self, log_probs: torch.Tensor, n_frames: torch.Tensor) -> None:
        """Refuse shapes that do not fit each other or the tokenizer, with a ValueError."""
        if log_probs.ndim != 3 or log_probs.shape[2] != len(self.tokenizer):
            raise ValueError(
                f"log_probs has shape {tuple(log_probs.shape)}; expected (batch, frame, {len(self.tokenizer)}), "
                "one column a token, blank included"
            )
        if n_frames.shape != log_probs.shape[:1] or n_frames.is_floating_point():
            raise ValueError(f"n_frames is {tuple(n_frames.shape)} {n_frames.dtype}; expected ({log_probs.shape[0]},) integers")
        if n_frames.numel() and not 0 <= int(n_frames.min()) <= int(n_frames.max()) <= log_probs.shape[1]:
            raise ValueError(f"n_frames is {n_frames.tolist()}; each must be in 0..{log_probs.shape[1]}, log_probs' frames")
