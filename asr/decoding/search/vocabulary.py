"""Words in a prefix beam search: where they end, and what the language model says to that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from asr.decoding.scorers.word_models import Weighted, WordSession
from asr.decoding.search.beam_state import NO_LABEL, Beam
from asr.decoding.search.trie import NOWHERE, ROOT, Trie


@dataclass(frozen=True)
class Ends:
    """Words that end in a frame; all tensors ``(end,)``, sorted by utterance.

    Attributes
    ----------
    rows, slots
        Utterance and hypothesis.
    tokens
        The token that ends the word.
    labels
        The word.
    acoustic
        Log-probability of the hypothesis with the token.
    bonus
        All of its score that is not acoustic.
    words_read
        Context of the language model after the word.
    """

    rows: torch.Tensor
    slots: torch.Tensor
    tokens: torch.Tensor
    labels: torch.Tensor
    acoustic: torch.Tensor
    bonus: torch.Tensor
    words_read: torch.Tensor


@dataclass(frozen=True)
class Finish:
    """One way in which a hypothesis can end with its utterance.

    Attributes
    ----------
    labels
        The words that the end of the utterance completes.
    bonus
        All of the score that is not acoustic.
    language, lstm
        Natural log-probabilities of the n-gram model and of the LSTM.
    complete
        Whether no word is left unfinished; an unfinished one is not written.
    """

    labels: tuple[int, ...]
    bonus: float
    language: float
    lstm: float
    complete: bool


class SearchVocabulary:
    """Words that a search knows.

    Parameters
    ----------
    trie
        Their spellings; its potentials are in nats of the score.
    extras
        What is added to the score for the word of each label (nats).
    ngram, lstm
        Language models over the labels with their weights.
    """

    def __init__(
        self, trie: Trie, extras: Sequence[float], *, ngram: Weighted | None = None, lstm: Weighted | None = None
    ) -> None:
        self.trie = trie
        self.ngram = ngram
        self.lstm = lstm
        self.extras = torch.tensor(extras, dtype=torch.float64)
        self.best_extra = max(extras)
        # One entry more, which NOWHERE finds as the last.
        promise = torch.where(trie.inner, trie.potential, float("-inf"))
        self.promise = torch.cat([promise, torch.tensor([float("-inf")], dtype=torch.float64)])
        self.label_count = torch.cat([trie.label_count, torch.tensor([0])])

    def session(self) -> VocabularySession:
        """Return what one search needs."""
        return VocabularySession(self)


class VocabularySession:
    """The vocabulary in one search, with what its language models have read so far.

    Attributes
    ----------
    trie
        The spellings.
    """

    def __init__(self, vocabulary: SearchVocabulary) -> None:
        self._vocabulary = vocabulary
        self.trie = vocabulary.trie
        models = [weighted for weighted in (vocabulary.ngram, vocabulary.lstm) if weighted is not None]
        self._words = WordSession([(model.reader(), weight) for model, weight in models]) if models else None

    def step(self, beam: Beam, tokens: torch.Tensor) -> torch.Tensor:
        """Return the node after each token ``(utterance, choice)`` behind each hypothesis, ``(utterance, slot, choice)``."""
        return self.trie.step(beam.node[:, :, None], tokens[:, None, :])

    def bonus(self, beam: Beam, nodes: torch.Tensor) -> torch.Tensor:
        """Return the hypotheses' bonus where they go on to ``nodes`` inside a word; minus infinity where they cannot."""
        before = beam.bonus - self.trie.potential[beam.node]
        return before[:, :, None] + self._vocabulary.promise[nodes]

    def ends(
        self, beam: Beam, acoustic: torch.Tensor, nodes: torch.Tensor, tokens: torch.Tensor, floor: torch.Tensor
    ) -> Ends | None:
        """Return the words that end with a token, or None.

        Parameters
        ----------
        acoustic, nodes
            ``(utterance, slot, choice)``, log-probability of each hypothesis with each token, and the node to which that leads.
        tokens
            ``(utterance, choice)``.
        floor
            ``(utterance, 1)``, scores at or below this are of no interest.
        """
        vocabulary, trie = self._vocabulary, self.trie
        before = beam.bonus - trie.potential[beam.node]
        hopeful = acoustic + (before + vocabulary.best_extra)[:, :, None] > floor[:, :, None]
        rows, slots, choices = (hopeful & (vocabulary.label_count[nodes] > 0)).nonzero(as_tuple=True)
        if not len(rows):
            return None
        reached = nodes[rows, slots, choices]
        counts = trie.label_count[reached]
        which = torch.arange(len(rows)).repeat_interleave(counts)
        place = torch.arange(len(which)) - (counts.cumsum(0) - counts)[which]
        labels = trie.labels[trie.label_start[reached][which] + place]
        rows, slots, choices = rows[which], slots[which], choices[which]
        bonus = before[rows, slots] + vocabulary.extras[labels]
        words_read = beam.words_read[rows, slots]
        if self._words is not None:
            contexts, scores = self._words.score(words_read.tolist(), labels.tolist())
            words_read = torch.tensor(contexts)
            bonus += torch.tensor(scores, dtype=torch.float64)
        return Ends(rows, slots, tokens[rows, choices], labels, acoustic[rows, slots, choices], bonus, words_read)

    def retain(self, beams: Sequence[Beam]) -> None:
        """Forget what the language models have read for hypotheses that are in none of the beams."""
        if self._words is not None:
            self._words.retain({context for beam in beams for context in beam.words_read.flatten().tolist()})

    def finish(self, beams: Sequence[Beam]) -> list[list[list[Finish]]]:
        """Return, for beams of one utterance each, the ways in which each hypothesis can end with its utterance."""
        trie = self.trie
        nodes, bonus, contexts = (
            torch.cat([getattr(beam, name)[0] for beam in beams]) for name in ("node", "bonus", "words_read")
        )
        complete = (nodes == ROOT) | (trie.ending is None and not trie.closed)
        last = torch.full_like(nodes, NOWHERE) if trie.ending is None else trie.step(nodes, torch.full_like(nodes, trie.ending))
        counts = torch.where(complete, 0, self._vocabulary.label_count[last])
        n_ways = counts.clamp(min=1)
        which = torch.arange(len(nodes)).repeat_interleave(n_ways)
        place = torch.arange(len(which)) - (n_ways.cumsum(0) - n_ways)[which]
        ends_word = (counts > 0)[which]
        labels = torch.full_like(which, NO_LABEL)
        labels[ends_word] = trie.labels[(trie.label_start[last][which] + place)[ends_word]]
        found = iter(self._ends((bonus - trie.potential[nodes])[which], contexts[which], labels, ends_word | complete[which]))
        ways = [[next(found) for _ in range(count)] for count in n_ways.tolist()]
        slots = iter(ways)
        return [[next(slots) for _ in range(beam.node.shape[1])] for beam in beams]

    def _ends(self, bonus: torch.Tensor, contexts: torch.Tensor, labels: torch.Tensor, complete: torch.Tensor) -> list[Finish]:
        """Add words, where there is a label, and the sentence's end; all arguments ``(way,)``."""
        named = labels != NO_LABEL
        bonus[named] += self._vocabulary.extras[labels[named]]
        totals: list[tuple[float, ...]] = [(0.0,)] * len(labels)
        if self._words is not None:
            after, scores = self._words.score(contexts[named].tolist(), labels[named].tolist())
            contexts[named] = torch.tensor(after, dtype=torch.int64)
            bonus[named] += torch.tensor(scores, dtype=torch.float64)
            scores, totals = self._words.finish(contexts.tolist())
            bonus += torch.tensor(scores, dtype=torch.float64)
        vocabulary = self._vocabulary
        return [
            Finish(
                (label,) if label != NO_LABEL else (),
                value,
                total[0] if vocabulary.ngram is not None else 0.0,
                total[-1] if vocabulary.lstm is not None else 0.0,
                is_complete,
            )
            for label, value, total, is_complete in zip(labels.tolist(), bonus.tolist(), totals, complete.tolist(), strict=True)
        ]
