"""CTC prefix beam search over a batch of utterances, with or without vocabulary and language models.

A hypothesis is a prefix: a sequence of tokens, and of words where there is a vocabulary. Its probability is the sum over all
alignments (or that of the best one), kept apart by whether they end in a blank (Hannun et al., "First-pass large vocabulary
continuous speech recognition using bi-directional recurrent DNNs", 2014). Alignments that give the same prefix are found by a
hash of it, also when the prefix had fallen out of the beam in between. A boundary that opens an utterance or follows another is
not written, so that prefixes which read the same are one.

All hypotheses of all utterances are extended together, frame by frame, by tensor operations in double precision.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from asr.decoding.scorers.ngram import NgramTokens
from asr.decoding.search.beam_search import BeamSearch, SearchHypothesis, SearchOptions
from asr.decoding.search.beam_state import NEVER, NO_LABEL, Beam, Stay, extend_keys, extended, stay
from asr.decoding.search.candidates import Candidates, Growth, select, with_ends
from asr.decoding.search.traceback import Step, TokenPath, trace
from asr.decoding.search.trie import ROOT
from asr.decoding.search.vocabulary import Ends, Finish, SearchVocabulary

# Frames after which the language models forget the hypotheses that have fallen out of the beam.
_FRAMES_REMEMBERED = 32
# Utterances searched together: more use the processor's caches worse, fewer spend more time between the operations.
_ROWS = 32


class PrefixSearch(BeamSearch):
    """Prefix beam search.

    Parameters
    ----------
    boundary
        The token between words, or None.
    vocabulary
        Words, or None where tokens are free. Its score for words replaces ``word_score`` of the options.
    tokens
        Language model over the tokens, or None.
    """

    def __init__(
        self, boundary: int | None, vocabulary: SearchVocabulary | None = None, tokens: NgramTokens | None = None
    ) -> None:
        self.boundary = boundary
        self.vocabulary = vocabulary
        self.tokens = tokens

    def run(self, utterances: Sequence[np.ndarray], options: SearchOptions) -> list[list[SearchHypothesis]]:
        """Return all hypotheses left at the end of each utterance, best first.

        Parameters
        ----------
        utterances, options
            As for the base class. Tokens that are further below the best token of their frame than the threshold are not tried.
            The boundary always is where it ends words.
        """
        order = sorted(range(len(utterances)), key=lambda index: -len(utterances[index]))
        found: dict[int, list[SearchHypothesis]] = {}
        for first in range(0, len(order), _ROWS):
            chosen = order[first : first + _ROWS]
            batch = _Batch(self, [torch.from_numpy(utterances[index]) for index in chosen], options)
            found.update(zip(chosen, batch.run(), strict=True))
        return [found[index] for index in range(len(utterances))]


class _Batch:
    """The search of some utterances, the longest first."""

    def __init__(self, search: PrefixSearch, utterances: Sequence[torch.Tensor], options: SearchOptions) -> None:
        self.options = options
        self.boundary = search.boundary
        self.join = torch.logaddexp if self.options.log_add else torch.maximum
        self.words = search.vocabulary.session() if search.vocabulary else None
        self.tokens = search.tokens.session() if search.tokens else None
        self.lengths = [len(utterance) for utterance in utterances]
        # Compared with the padding, no token is near anything.
        self.log_probs = torch.nn.utils.rnn.pad_sequence(list(utterances), batch_first=True, padding_value=math.nan).double()

    def run(self) -> list[list[SearchHypothesis]]:
        """Return the hypotheses of each utterance."""
        start = self.words.trie.start if self.words else 0
        beam = Beam.begin(len(self.lengths), self.boundary, start)
        steps: list[Step] = []
        ends: list[Beam] = []
        for frame, n_tokens in enumerate(self._tokens_to_try()):
            active = sum(length > frame for length in self.lengths)
            ends += [beam.rows(slice(row, row + 1)) for row in range(len(beam.last) - 1, active - 1, -1)]
            beam, step = self._step(beam.rows(slice(active)), self.log_probs[:active, frame], n_tokens)
            steps.append(step)
            if self.words is not None and frame % _FRAMES_REMEMBERED == 0:
                self.words.retain([beam, *ends])
        ends += [beam.rows(slice(row, row + 1)) for row in range(len(beam.last) - 1, -1, -1)]
        ends.reverse()
        paths = trace(steps, [end.last.shape[1] for end in ends])
        ways = self.words.finish(ends) if self.words is not None else [_free_ends(end) for end in ends]
        return [self._finish(*each) for each in zip(ends, paths, ways, strict=True)]

    def _tokens_to_try(self) -> list[int]:
        """Return, for each frame, how many tokens come near its best one in one of the utterances, at most those asked for."""
        near = self.log_probs >= self._least(self.log_probs)
        most = self.options.tokens or near.shape[2]
        n_near: list[int] = near[:, :, 1:].sum(dim=2).amax(dim=0).clamp(min=1, max=most).tolist()
        return n_near

    def _least(self, log_probs: torch.Tensor) -> torch.Tensor:
        """Return the log-probability, ``(..., 1)``, that a token needs to be tried in a frame, ``(..., token)``."""
        return log_probs.amax(dim=-1, keepdim=True) - self.options.threshold

    def _step(self, beam: Beam, log_probs: torch.Tensor, n_tokens: int) -> tuple[Beam, Step]:
        """Read a frame, ``(utterance, token)`` log-probabilities of which ``n_tokens`` are tried."""
        total = self.join(beam.blank, beam.token)
        stays = stay(beam, log_probs, total, self.boundary, self.join)
        staying = self.join(stays.blank, stays.token) + beam.bonus
        growth = self._grow(beam, log_probs, total, n_tokens, stays, staying)
        flat = torch.cat([staying, growth.score.flatten(1)], dim=1)
        score, index = flat.topk(min(self.options.beam, flat.shape[1]), dim=1)
        chosen = select(beam, stays, growth, score, index)
        ends = self._end_words(beam, log_probs, total, growth, stays, score)
        if ends is not None:
            chosen = with_ends(chosen, ends, self.options.beam)
        return self._advance(beam, stays, chosen)

    def _grow(
        self, beam: Beam, log_probs: torch.Tensor, total: torch.Tensor, n_tokens: int, stays: Stay, staying: torch.Tensor
    ) -> Growth:
        """Put the frame's most likely tokens behind each hypothesis."""
        values = log_probs[:, 1:]
        tokens = torch.arange(1, log_probs.shape[1]).expand_as(values)
        choices = beam.last - 1
        if n_tokens < values.shape[1]:
            values, chosen = values.topk(n_tokens, dim=1)
            tokens = chosen + 1
            places = torch.full_like(log_probs, n_tokens, dtype=torch.int64)
            places.scatter_(1, tokens, torch.arange(n_tokens).expand_as(tokens))
            choices = places.gather(1, beam.last)
        # Some are near the best one of another utterance only.
        values = values.masked_fill(values < self._least(log_probs), NEVER)
        acoustic = extended(beam, values, total, tokens, self.boundary)
        if self.words is None:
            nodes, score = None, acoustic + beam.bonus[:, :, None]
        else:
            nodes = self.words.step(beam, tokens)
            score = acoustic + self.words.bonus(beam, nodes)
        # What leads to a prefix that is in the beam was added to that one.
        rows, slots = (stays.present & (beam.label == NO_LABEL) & (choices < n_tokens)).nonzero(as_tuple=True)
        score[rows, stays.slots[rows, slots], choices[rows, slots]] = NEVER
        if self.tokens is not None:
            hopeful = score > staying.amax(dim=1)[:, None, None] - self.options.threshold
            rows, slots, choices = hopeful.nonzero(as_tuple=True)
            added = self._token_scores(beam.tokens_read[rows, slots], tokens[rows, choices])
            score = torch.full_like(score, NEVER).index_put_((rows, slots, choices), score[hopeful] + added)
        return Growth(tokens, acoustic, score, nodes)

    def _token_scores(self, contexts: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        assert self.tokens is not None
        scores = self.tokens.score(contexts.tolist(), tokens.tolist())
        return self.options.lm_weight * torch.tensor(scores, dtype=torch.float64)

    def _end_words(
        self, beam: Beam, log_probs: torch.Tensor, total: torch.Tensor, growth: Growth, stays: Stay, score: torch.Tensor
    ) -> Ends | None:
        """Return the words that end in this frame and may reach the beam; ``score`` is that of the others, best first."""
        if self.words is None or growth.nodes is None:
            return None
        acoustic, nodes, tokens = growth.acoustic, growth.nodes, growth.tokens
        ending = self.words.trie.ending
        if ending is not None:
            tokens = torch.full_like(beam.last[:, :1], ending)
            acoustic = extended(beam, log_probs[:, ending : ending + 1], total, tokens, self.boundary)
            nodes = self.words.step(beam, tokens)
        floor = score[:, :1] - self.options.threshold
        if score.shape[1] == self.options.beam:
            floor = torch.maximum(floor, score[:, -1:])
        ends = self.words.ends(beam, acoustic, nodes, tokens, floor)
        if ends is None:
            return None
        if self.tokens is not None:
            ends.bonus.add_(self._token_scores(beam.tokens_read[ends.rows, ends.slots], ends.tokens))
        keys = extend_keys(beam.key[ends.rows, ends.slots], ends.tokens, ends.labels)[:, None]
        there = stays.keys[ends.rows]
        places = torch.searchsorted(there, keys).clamp_(max=there.shape[1] - 1)
        ends.acoustic.masked_fill_((there.gather(1, places) == keys)[:, 0], NEVER)
        return ends

    def _advance(self, beam: Beam, stays: Stay, chosen: Candidates) -> tuple[Beam, Step]:
        """Return the beam of the chosen hypotheses, as wide as the utterance with most of them needs it."""
        alive = chosen.score >= chosen.score[:, :1] - self.options.threshold
        n_alive = int(alive.sum(dim=1).max())
        alive = alive[:, :n_alive]
        chosen = Candidates(**{name: value[:, :n_alive] for name, value in vars(chosen).items()})
        source, is_new = chosen.source, chosen.token > 0
        old = Beam(**{name: value.gather(1, source) for name, value in vars(beam).items()})
        last, label = torch.where(is_new, chosen.token, old.last), torch.where(is_new, chosen.label, old.label)
        key = torch.where(is_new, extend_keys(old.key, chosen.token, chosen.label), old.key)
        # A dead hypothesis is nobody's parent and has none, which would bring it back to life.
        dead_keys = torch.arange(-1 - n_alive, -1)
        result = Beam(
            blank=torch.where(is_new | ~alive, NEVER, stays.blank.gather(1, source)),
            token=torch.where(alive, chosen.acoustic, NEVER),
            last=last,
            key=torch.where(alive, key, dead_keys),
            parent=torch.where(alive, torch.where(is_new, old.key, old.parent), 0),
            label=label,
            node=torch.where(alive, chosen.node, ROOT),
            bonus=torch.where(alive, chosen.bonus, 0.0),
            words_read=torch.where(alive, chosen.words_read, 0),
            tokens_read=old.tokens_read,
        )
        if self.tokens is not None:
            places = (is_new & alive).nonzero(as_tuple=True)
            contexts = self.tokens.advance(old.tokens_read[places].tolist(), last[places].tolist())
            result.tokens_read[places] = torch.tensor(contexts, dtype=torch.int64)
        via = stays.via.gather(1, source) & ~is_new
        written = is_new | via
        step = Step(
            source=torch.where(via, stays.slots.gather(1, source), source),
            token=torch.where(written, last, 0),
            label=torch.where(written, label, NO_LABEL),
        )
        return result, step

    def _finish(self, beam: Beam, paths: Sequence[TokenPath], ways: Sequence[Sequence[Finish]]) -> list[SearchHypothesis]:
        """Return the hypotheses of one utterance, best first; those with an unfinished word only where there are no others."""
        acoustic = self.join(beam.blank, beam.token)[0].tolist()
        found: list[tuple[bool, SearchHypothesis]] = []
        for slot, path in enumerate(paths):
            added, language = self._finish_tokens(path, int(beam.tokens_read[0, slot]))
            for way in ways[slot] if acoustic[slot] > NEVER else []:
                score = acoustic[slot] + way.bonus + added
                hypothesis = SearchHypothesis(
                    path.tokens,
                    path.frames,
                    path.labels + way.labels,
                    acoustic[slot],
                    way.language + language,
                    score,
                    path.ends,
                    way.lstm,
                )
                found.append((way.complete, hypothesis))
        complete = [hypothesis for is_complete, hypothesis in found if is_complete]
        return sorted(complete or [hypothesis for _, hypothesis in found], key=lambda hypothesis: -hypothesis.score)

    def _finish_tokens(self, path: TokenPath, context: int) -> tuple[float, float]:
        """Return what a language model over tokens adds at the end, weighted, and what it says to the whole path."""
        if self.tokens is None:
            return 0.0, 0.0
        end = self.tokens.finish([context])[0]
        return self.options.lm_weight * end, self.tokens.total(path.tokens) + end


def _free_ends(beam: Beam) -> list[list[Finish]]:
    return [[Finish((), bonus, 0.0, 0.0, True)] for bonus in beam.bonus[0].tolist()]
