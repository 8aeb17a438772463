"""Words in a prefix beam search: where they end, and what the language model says to that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from asr.decoding.beam_state import Beam
from asr.decoding.scorers import WordModel
from asr.decoding.trie import NOWHERE, ROOT, Trie


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
    language
        Natural log-probability of the language model.
    complete
        Whether no word is left unfinished; an unfinished one is not written.
    """

    labels: tuple[int, ...]
    bonus: float
    language: float
    complete: bool


class Vocabulary:
    """Words that a search knows.

    Parameters
    ----------
    trie
        Their spellings; its potentials are in nats of the score.
    extras
        What is added to the score for the word of each label (nats).
    model
        Language model over the labels, or None.
    lm_weight
        Its weight.
    """

    def __init__(self, trie: Trie, extras: Sequence[float], model: WordModel | None, lm_weight: float) -> None:
        self.trie = trie
        self.model = model
        self.lm_weight = lm_weight
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
    """The vocabulary in one search, with what its language model has read so far.

    Attributes
    ----------
    trie
        The spellings.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self.trie = vocabulary.trie
        self._words = vocabulary.model.session() if vocabulary.model else None

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
            bonus += vocabulary.lm_weight * torch.tensor(scores, dtype=torch.float64)
        return Ends(rows, slots, tokens[rows, choices], labels, acoustic[rows, slots, choices], bonus, words_read)

    def finish(self, beam: Beam) -> list[list[Finish]]:
        """Return the ways in which each hypothesis of a single utterance can end with it."""
        trie = self.trie
        nodes = beam.node[0]
        bonuses = (beam.bonus[0] - trie.potential[nodes]).tolist()
        contexts = beam.words_read[0].tolist()
        complete = (nodes == ROOT) | (trie.ending is None and not trie.closed)
        last = torch.full_like(nodes, NOWHERE) if trie.ending is None else trie.step(nodes, torch.full_like(nodes, trie.ending))
        counts = torch.where(complete, 0, self._vocabulary.label_count[last])
        first = trie.label_start[last].tolist()
        rows = zip(bonuses, contexts, complete.tolist(), first, counts.tolist(), strict=True)
        return [self._finish(*row) for row in rows]

    def _finish(self, bonus: float, context: int, complete: bool, first: int, count: int) -> list[Finish]:
        if not count:
            return [self._end_sentence((), bonus, context, complete)]
        found = []
        for label in self.trie.labels[first : first + count].tolist():
            added, after = self._vocabulary.extras[label].item(), context
            if self._words is not None:
                (after,), (score,) = self._words.score([context], [label])
                added += self._vocabulary.lm_weight * score
            found.append(self._end_sentence((label,), bonus + added, after, True))
        return found

    def _end_sentence(self, labels: tuple[int, ...], bonus: float, context: int, complete: bool) -> Finish:
        if self._words is None:
            return Finish(labels, bonus, 0.0, complete)
        score = self._words.finish([context])[0]
        bonus += self._vocabulary.lm_weight * score
        return Finish(labels, bonus, self._words.total(context) + score, complete)
