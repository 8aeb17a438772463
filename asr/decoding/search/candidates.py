"""The hypotheses among which a frame's beam is chosen: those that stay, that grow by a token, and that end a word."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from asr.decoding.search.beam_state import NEVER, NO_LABEL, Beam, Stay
from asr.decoding.search.trie import ROOT
from asr.decoding.search.vocabulary import Ends


@dataclass
class Growth:
    """Hypotheses with a token behind them that ends no word: choices ``(utterance, choice)``, the rest with slots between.

    ``acoustic`` is the log-probability, ``score`` the whole score, ``nodes`` the place in the tree of the vocabulary.
    """

    tokens: torch.Tensor
    acoustic: torch.Tensor
    score: torch.Tensor
    nodes: torch.Tensor | None


@dataclass
class Candidates:
    """Hypotheses to choose from, each tensor ``(utterance, candidate)``, the best first.

    ``source`` is the slot before the frame, ``token`` what is written (0 where the hypothesis stays), ``label`` the word that
    it ends, ``acoustic`` the log-probability of the alignments that end in the last token; the rest as in :class:`Beam`.
    """

    score: torch.Tensor
    source: torch.Tensor
    token: torch.Tensor
    label: torch.Tensor
    node: torch.Tensor
    acoustic: torch.Tensor
    bonus: torch.Tensor
    words_read: torch.Tensor


def select(beam: Beam, stays: Stay, growth: Growth, score: torch.Tensor, index: torch.Tensor) -> Candidates:
    """Describe hypotheses that stay or grow, by their place among the stays and, behind them, the cells of the growth."""
    width, n_choices = beam.last.shape[1], growth.tokens.shape[1]
    is_stay = index < width
    cell = (index - width).clamp_(min=0)
    source = torch.where(is_stay, index, cell // n_choices)
    acoustic = growth.acoustic.flatten(1).gather(1, cell)
    node = beam.node.gather(1, source)
    if growth.nodes is not None:
        node = torch.where(is_stay, node, growth.nodes.flatten(1).gather(1, cell))
    return Candidates(
        score=score,
        source=source,
        token=torch.where(is_stay, 0, growth.tokens.gather(1, cell % n_choices)),
        label=torch.full_like(index, NO_LABEL),
        node=node,
        acoustic=torch.where(is_stay, stays.token.gather(1, source), acoustic),
        bonus=torch.where(is_stay, beam.bonus.gather(1, source), score - acoustic),
        words_read=beam.words_read.gather(1, source),
    )


def with_ends(candidates: Candidates, ends: Ends, n: int) -> Candidates:
    """Return the ``n`` best of the candidates and of the words that end."""
    n_rows, n_others = candidates.score.shape
    counts = torch.bincount(ends.rows, minlength=n_rows)
    place = torch.arange(len(ends.rows)) - (counts.cumsum(0) - counts)[ends.rows]
    table = torch.zeros(n_rows, int(counts.max()), dtype=torch.int64)
    table[ends.rows, place] = torch.arange(len(ends.rows))
    score = torch.full(table.shape, NEVER, dtype=torch.float64)
    score[ends.rows, place] = ends.acoustic + ends.bonus
    more = Candidates(
        score=score,
        source=ends.slots[table],
        token=ends.tokens[table],
        label=ends.labels[table],
        node=torch.full_like(table, ROOT),
        acoustic=ends.acoustic[table],
        bonus=ends.bonus[table],
        words_read=ends.words_read[table],
    )
    both = {name: torch.cat([value, getattr(more, name)], dim=1) for name, value in vars(candidates).items()}
    _, index = both["score"].topk(min(n, n_others + table.shape[1]), dim=1)
    return Candidates(**{name: value.gather(1, index) for name, value in both.items()})
