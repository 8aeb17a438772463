"""The hypotheses of a prefix beam search, and how a frame changes their probabilities."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

NEVER = float("-inf")
NO_LABEL = -1

Join = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Log-probability of two sets of alignments together: ``torch.logaddexp``, or ``torch.maximum`` where the best one counts."""

# Odd numbers, as in SplitMix64 (Steele et al., "Fast splittable pseudorandom number generators", 2014).
_FACTORS = (-0x61C8864680B583EB, -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15)


@dataclass
class Beam:
    """Hypotheses, each tensor ``(utterance, slot)``.

    Attributes
    ----------
    blank, token
        Log-probability of the alignments that end in a blank, and of those that end in ``last``.
    last
        The last token; at the beginning the boundary, or the blank where there is no boundary.
    key, parent
        Hashes of the prefix, and of the prefix that it extends.
    label
        Label of the word that ``last`` ended, or -1.
    node
        Place in the tree of the vocabulary.
    bonus
        All of the score that is not acoustic.
    words_read, tokens_read
        Contexts of the language models over words and over tokens.
    """

    blank: torch.Tensor
    token: torch.Tensor
    last: torch.Tensor
    key: torch.Tensor
    parent: torch.Tensor
    label: torch.Tensor
    node: torch.Tensor
    bonus: torch.Tensor
    words_read: torch.Tensor
    tokens_read: torch.Tensor

    @classmethod
    def begin(cls, n_utterances: int, boundary: int | None, node: int) -> Beam:
        """Return the beam before the first frame: one empty hypothesis an utterance."""

        def whole(value: int) -> torch.Tensor:
            return torch.full((n_utterances, 1), value)

        def real(value: float) -> torch.Tensor:
            return torch.full((n_utterances, 1), value, dtype=torch.float64)

        return cls(
            blank=real(0.0),
            token=real(NEVER),
            last=whole(0 if boundary is None else boundary),
            key=whole(1),
            parent=whole(0),
            label=whole(NO_LABEL),
            node=whole(node),
            bonus=real(0.0),
            words_read=whole(0),
            tokens_read=whole(0),
        )

    def rows(self, chosen: slice) -> Beam:
        """Return some of the utterances."""
        return Beam(**{name: value[chosen] for name, value in vars(self).items()})


@dataclass
class Stay:
    """What becomes of the hypotheses that a frame does not extend, ``(utterance, slot)``.

    Attributes
    ----------
    blank, token
        As in :class:`Beam`.
    keys
        The beam's keys, sorted.
    slots, present
        Slot of the hypothesis that each one extends, and whether it is in the beam.
    via
        Whether most of the probability comes from that one, by writing ``last`` in this frame.
    """

    blank: torch.Tensor
    token: torch.Tensor
    keys: torch.Tensor
    slots: torch.Tensor
    present: torch.Tensor
    via: torch.Tensor


def stay(beam: Beam, log_probs: torch.Tensor, total: torch.Tensor, boundary: int | None, join: Join) -> Stay:
    """Read a frame without extending a hypothesis: a blank, the last token again, or as what its parent becomes by it.

    Parameters
    ----------
    log_probs
        ``(utterance, token)`` of the frame.
    total
        ``(utterance, slot)``, both parts of the beam's log-probability together.
    boundary
        The token that is not written again where it is the last one, even after a blank.
    join
        Joins log-probabilities.
    """
    again = log_probs.gather(1, beam.last)
    blank = total + log_probs[:, :1]
    token = again + (beam.token if boundary is None else torch.where(beam.last == boundary, total, beam.token))
    keys, order = beam.key.sort(dim=1)
    slots = order.gather(1, torch.searchsorted(keys, beam.parent).clamp_(max=keys.shape[1] - 1))
    present = beam.key.gather(1, slots) == beam.parent
    repeated = beam.last.gather(1, slots) == beam.last
    written = again + torch.where(repeated, beam.blank.gather(1, slots), total.gather(1, slots))
    written = torch.where(present, written, NEVER)
    via = written > join(blank, token)
    return Stay(blank, join(token, written), keys, slots, present, via)


def extended(
    beam: Beam, log_probs: torch.Tensor, total: torch.Tensor, tokens: torch.Tensor, boundary: int | None
) -> torch.Tensor:
    """Return the log-probability of each hypothesis with each token behind it, ``(utterance, slot, choice)``.

    Parameters
    ----------
    log_probs
        ``(utterance, choice)``, those of the tokens.
    tokens
        ``(utterance, choice)``.
    """
    repeated = beam.last[:, :, None] == tokens[:, None, :]
    result = torch.where(repeated, beam.blank[:, :, None], total[:, :, None]) + log_probs[:, None, :]
    if boundary is not None:
        result.masked_fill_(repeated & (tokens == boundary)[:, None, :], NEVER)
    return result


def extend_keys(keys: torch.Tensor, tokens: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the hashes of prefixes with a token, and perhaps a word's end, behind them; all of one shape."""
    mixed = (keys ^ (tokens * _FACTORS[0])) * _FACTORS[1]
    mixed = ((mixed ^ (mixed >> 29)) + labels) * _FACTORS[2]
    return mixed ^ (mixed >> 32)
