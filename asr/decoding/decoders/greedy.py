"""Best path: the likeliest token of each frame, repeats merged, blanks removed (Graves et al. 2006, section 3.2)."""

from __future__ import annotations

import numpy as np
import torch

from asr.config import DecodingConfig
from asr.decoding.decoders.decoder import Decoder
from asr.decoding.decoders.emissions import Adjustment, nan_failure
from asr.decoding.hypothesis import SILENCE, Hypothesis
from asr.text import Tokenizer


class GreedyDecoder(Decoder):
    """Best-path decoding.

    Parameters
    ----------
    tokenizer
        Names the tokens.
    config
        Of the decoder's settings, those that change log-probabilities count.

    Raises
    ------
    ConfigError
        Where there is not one prior for each token.

    Examples
    --------
    The frames ``a a <blank> a b b`` read "aab": a blank between two equal tokens keeps them apart.
    """

    def __init__(self, tokenizer: Tokenizer, config: DecodingConfig) -> None:
        super().__init__(tokenizer)
        self._adjustment = Adjustment(config, len(tokenizer))

    @property
    def signature(self) -> str:
        return f"greedy{self._adjustment.signature}"

    def decode(self, log_probs: torch.Tensor, n_frames: torch.Tensor) -> list[Hypothesis]:
        """Return the best path of each utterance; its score is the sum of the frames' highest log-probabilities.

        Raises
        ------
        ValueError
            Where the shapes do not fit each other or the tokenizer.
        Failure
            Where a log-probability is NaN.
        """
        self.check(log_probs, n_frames)
        if log_probs.shape[1] == 0:
            return [SILENCE] * log_probs.shape[0]
        scores, best = (tensor.cpu() for tensor in self._adjustment.apply(log_probs.detach()).max(dim=2))
        return [
            self._collapse(path[:length], float(score[:length].double().sum()))
            for path, score, length in zip(best.numpy(), scores, n_frames.tolist(), strict=True)
        ]

    def _collapse(self, path: np.ndarray, score: float) -> Hypothesis:
        if np.isnan(score):
            raise nan_failure()
        is_new = np.ones(len(path), dtype=bool)
        is_new[1:] = path[1:] != path[:-1]
        frames = np.flatnonzero(is_new & (path != self.tokenizer.blank))
        tokens = path[frames].tolist()
        return Hypothesis(self.tokenizer.decode(tokens), tuple(tokens), tuple(frames.tolist()), score, 0.0, score)
