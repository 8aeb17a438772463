"""Which utterances make a batch, and in which order the batches come: an epoch of training, and a pass of evaluation."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from asr.config import Config
from asr.errors import ConfigError, DataError

if TYPE_CHECKING:
    from lhotse import CutSet
    from lhotse.cut import Cut

logger = logging.getLogger(__name__)


class TrainingOrder:
    """Shuffled batches of similar durations: each epoch has every utterance once, and as many batches as any other.

    The utterances are sorted into buckets by their duration, with about as much audio in each. An epoch shuffles every bucket,
    cuts it into batches of nearly equal numbers, and shuffles those. It follows from the seed and its number alone, so it can
    be entered anywhere.

    Parameters
    ----------
    cuts
        The training utterances.
    config
        Its ``trainer`` and ``seed`` decide.
    world_size, rank
        Number of processes that train together, and which of them this is. Their batches of a step lie beside each other in
        order of duration, so that none waits long for another.

    Raises
    ------
    ConfigError
        There are more processes than utterances.
    """

    def __init__(self, cuts: CutSet, config: Config, *, world_size: int = 1, rank: int = 0) -> None:
        trainer = config.trainer
        self.cuts = list(cuts)
        self.seed = config.seed
        self.world_size = world_size
        self.rank = rank
        if len(self.cuts) < world_size:
            raise ConfigError(
                f"trainer.devices={world_size}: more processes than the {len(self.cuts)} utterances of corpus.train"
            )
        durations = np.array([cut.duration for cut in self.cuts])
        self._buckets = _buckets(durations, trainer.buckets)
        longest = [float(durations[bucket[-1]]) for bucket in self._buckets]
        sizes = [min(max(1, int(trainer.batch_s / duration)), trainer.max_utterances) for duration in longest]
        self._n_batches = [math.ceil(len(bucket) / size) for bucket, size in zip(self._buckets, sizes, strict=True)]
        for _ in range(-sum(self._n_batches) % world_size):  # each process needs a batch in each step
            largest = max(range(len(sizes)), key=lambda i: len(self._buckets[i]) / self._n_batches[i])
            if len(self._buckets[largest]) > self._n_batches[largest]:
                self._n_batches[largest] += 1

    def __len__(self) -> int:
        """Batches that each process has in an epoch."""
        return math.ceil(sum(self._n_batches) / self.world_size)

    def epoch(self, number: int) -> list[list[Cut]]:
        """Return the batches of this process in an epoch, from 0 on."""
        rng = np.random.default_rng([self.seed, number])
        batches: list[np.ndarray] = []
        for bucket, n_batches in zip(self._buckets, self._n_batches, strict=True):
            batches += np.array_split(rng.permutation(bucket), n_batches)
        batches += batches[: -len(batches) % self.world_size]  # where every batch is a single utterance
        mine = (batches[self.world_size * step + self.rank] for step in rng.permutation(len(self)))
        return [[self.cuts[index] for index in batch] for batch in mine]


def _buckets(durations: np.ndarray, n_buckets: int) -> list[np.ndarray]:
    """Sort indices of ``(utterance,)`` durations into buckets with about as much audio in each, shortest first."""
    ordered = np.argsort(durations, kind="stable")
    share = np.cumsum(durations[ordered])
    edges = np.searchsorted(share, share[-1] * np.arange(1, n_buckets) / n_buckets)
    return [bucket for bucket in np.split(ordered, np.unique(edges)) if len(bucket)]


def short_enough(cuts: CutSet, config: Config) -> CutSet:
    """Keep the utterances of at most ``trainer.max_duration_s`` and report the others.

    Raises
    ------
    DataError
        None is left.
    """
    from lhotse import CutSet

    limit = config.trainer.max_duration_s
    kept = [cut for cut in cuts if cut.duration <= limit]
    long = [cut for cut in cuts if cut.duration > limit]
    if long:
        named = ", ".join(f"{cut.id} ({cut.duration:.1f} s)" for cut in long[:5]) + (", ..." if len(long) > 5 else "")
        n_all = len(long) + len(kept)
        logger.warning("%d of %d training utterances are longer than %g s, left out: %s", len(long), n_all, limit, named)
    if not kept:
        raise DataError(f"all {len(long)} training utterances are longer than trainer.max_duration_s = {limit:g} s; raise it")
    return CutSet.from_cuts(kept)


class EvaluationBatches:
    """Every utterance exactly once, the longest first, so that a lack of memory shows at once.

    Parameters
    ----------
    cuts
        The utterances.
    batch_s
        Audio in a batch at most, padding included, in seconds; a longer utterance is a batch by itself.
    max_utterances
        Utterances in a batch at most.
    world_size, rank
        Batch ``i`` belongs to the process with ``rank == i % world_size``. Batches are made small enough that each process
        has one, if there are as many utterances.
    """

    def __init__(self, cuts: CutSet, batch_s: float, max_utterances: int, *, world_size: int = 1, rank: int = 0) -> None:
        max_utterances = max(1, min(max_utterances, len(cuts) // world_size))
        batches: list[list[Cut]] = []
        for cut in sorted(cuts, key=lambda cut: (-cut.duration, cut.id)):
            current = batches[-1] if batches else []
            if current and len(current) < max_utterances and (len(current) + 1) * current[0].duration <= batch_s:
                current.append(cut)
            else:
                batches.append([cut])
        self._batches = batches[rank::world_size]

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[list[Cut]]:
        return iter(self._batches)
