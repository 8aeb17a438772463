"""The network's log-probabilities as a decoder wants them: adjusted, checked, without needless frames."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from asr.config import DecodingConfig
from asr.errors import ConfigError, Failure

# As good as never, and finite, so that sums and differences stay finite as well.
_LOWEST = -1e4


@dataclass(frozen=True)
class Emissions:
    """What a search gets of an utterance: the network's scores of its frames.

    Attributes
    ----------
    log_probs
        ``(frame, token)`` float32, finite.
    frames
        ``(frame,)``, which of the network's output frames these are.
    """

    log_probs: np.ndarray
    frames: np.ndarray


class Adjustment:
    """What is done to log-probabilities before they are searched.

    Parameters
    ----------
    config
        ``blank_penalty``, ``prior_weight``, ``priors`` and ``blank_skip`` of the decoder's settings.
    n_tokens
        Tokens of the network, blank included.

    Raises
    ------
    ConfigError
        Where there is not one prior for each token.
    """

    def __init__(self, config: DecodingConfig, n_tokens: int) -> None:
        self._skip = config.blank_skip
        self._offsets: torch.Tensor | None = None
        if config.prior_weight and len(config.priors) != n_tokens:
            raise ConfigError(
                f"decoding.prior_weight={config.prior_weight:g}: decoding.priors has {len(config.priors)} values; expected "
                f"{n_tokens}, one a token, the blank first. `asr tune` finds them, or set decoding.prior_weight=0"
            )
        if config.prior_weight or config.blank_penalty:
            offsets = torch.zeros(n_tokens, dtype=torch.float64)
            if config.prior_weight:
                offsets -= config.prior_weight * torch.tensor(config.priors, dtype=torch.float64)
            offsets[0] -= config.blank_penalty
            self._offsets = offsets
        parts = {"blank_penalty": config.blank_penalty, "prior_weight": config.prior_weight}
        self._signature = "".join(f",{name}={value:g}" for name, value in parts.items() if value)

    @property
    def signature(self) -> str:
        """The settings that change scores, each after a comma; blank skipping is not among them, see :meth:`emissions`."""
        return self._signature

    def apply(self, log_probs: torch.Tensor) -> torch.Tensor:
        """Return log-probabilities ``(..., token)`` with the priors and the blank's penalty taken from them.

        Priors of the tokens are divided out so that the score says how likely the tokens make the sound, as in hybrid systems
        (Manohar et al., "Semi-supervised training of acoustic models using lattice-free MMI", 2018, and others): the network
        has also learned how frequent the tokens are, the blank above all.
        """
        return log_probs if self._offsets is None else log_probs + self._offsets.to(log_probs)

    def emissions(self, log_probs: torch.Tensor, n_frames: torch.Tensor) -> list[Emissions]:
        """Return each utterance of a batch by itself.

        Of neighbouring frames whose blank is almost certain, the first is kept: it still keeps two equal tokens apart.

        Parameters
        ----------
        log_probs, n_frames
            As for :meth:`asr.decoding.decoders.decoder.Decoder.decode`.

        Raises
        ------
        Failure
            Where a log-probability is NaN or plus infinity.
        """
        rows = log_probs.detach().float().cpu()
        return [self._emissions(row[:length]) for row, length in zip(rows, n_frames.tolist(), strict=True)]

    def _emissions(self, log_probs: torch.Tensor) -> Emissions:
        if not bool((log_probs < torch.inf).all()):
            raise nan_failure()
        frames = np.arange(len(log_probs))
        if self._skip < 1.0:
            blank = log_probs[:, 0].exp().numpy() > self._skip
            frames = np.flatnonzero(~blank | ~np.append(False, blank[:-1]))
        adjusted = self.apply(log_probs[torch.from_numpy(frames)]).clamp_(min=_LOWEST)
        return Emissions(np.ascontiguousarray(adjusted.numpy()), frames)


def nan_failure() -> Failure:
    """Return the error where log-probabilities are NaN."""
    return Failure("the network's output holds NaN, so there is no text to decode; its weights or its input are broken")
