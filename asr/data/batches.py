"""Utterances to padded batches: decoded audio kept in memory, perturbed, and the order of an epoch.

Everything random here follows from the seed, the epoch and the utterance's id, so a run repeats whatever the number of worker
processes: exactly where all have as many threads (a worker has one), to the last bit of resampling otherwise.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from asr.config import AugmentConfig, Config
from asr.data.batch import Batch
from asr.data.chain import Chain, build_chain
from asr.data.manifest import transcript
from asr.data.reading import AudioCache
from asr.errors import DataError

if TYPE_CHECKING:
    from lhotse import CutSet
    from lhotse.cut import Cut
    from lhotse.dataset import DynamicBucketingSampler

logger = logging.getLogger(__name__)


class SpeechDataset(Dataset[Batch]):
    """Turns the cuts that a sampler chose into a :class:`Batch`.

    Parameters
    ----------
    sample_rate
        Rate of the waveforms (Hz).
    chain
        Effects that each utterance goes through; nothing leaves it as it was recorded.
    cache
        Where decoded audio is kept.
    """

    def __init__(self, sample_rate: int, *, chain: Chain | None = None, cache: AudioCache | None = None) -> None:
        self.sample_rate = sample_rate
        self.chain = chain
        self.epoch = 0
        self.cache = cache if cache is not None else AudioCache(0.0)

    def __getitem__(self, cuts: CutSet) -> Batch:
        """Read a batch.

        Raises
        ------
        AudioError
            An utterance cannot be read; the message names it and its file.
        """
        waveforms = [self._waveform(cut) for cut in cuts]
        n_samples = torch.tensor([len(waveform) for waveform in waveforms], dtype=torch.int64)
        padded = torch.zeros(len(waveforms), int(n_samples.max()))
        for row, waveform in zip(padded, waveforms, strict=True):
            row[: len(waveform)] = torch.from_numpy(waveform)
        ids = tuple(cut.id for cut in cuts)
        return Batch(ids, padded, n_samples, tuple(transcript(cut) for cut in cuts), self.sample_rate)

    def _waveform(self, cut: Cut) -> np.ndarray:
        """``(sample,)`` float32 of one utterance."""
        waveform = self.cache.read(cut, self.sample_rate)
        return waveform if self.chain is None else self.chain(waveform, cut.id, self.epoch)


class SpeechLoader(DataLoader[Batch]):
    """A :class:`torch.utils.data.DataLoader` of batches whose dataset follows the sampler's epoch."""

    dataset: SpeechDataset

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch (from 0) whose order and augmentation the next iteration has."""
        if hasattr(self.sampler, "set_epoch"):
            self.sampler.set_epoch(epoch)
        self.dataset.epoch = epoch

    def __iter__(self) -> Any:
        self.dataset.epoch = getattr(self.sampler, "epoch", self.dataset.epoch)
        return super().__iter__()


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
        from lhotse import CutSet

        max_utterances = max(1, min(max_utterances, len(cuts) // world_size))
        batches: list[list[Cut]] = []
        for cut in sorted(cuts, key=lambda cut: (-cut.duration, cut.id)):
            current = batches[-1] if batches else []
            if current and len(current) < max_utterances and (len(current) + 1) * current[0].duration <= batch_s:
                current.append(cut)
            else:
                batches.append([cut])
        self._batches = [CutSet.from_cuts(batch) for batch in batches[rank::world_size]]

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[CutSet]:
        return iter(self._batches)


def training_loader(
    cuts: CutSet,
    config: Config,
    *,
    chain: Chain | None = None,
    cache: AudioCache | None = None,
    world_size: int = 1,
    rank: int = 0,
) -> SpeechLoader:
    """Shuffled batches of similar durations, perturbed.

    Parameters
    ----------
    cuts
        The training utterances; those longer than ``trainer.max_duration_s`` are reported and left out.
    config
        Its ``trainer``, ``augment``, ``frontend`` and ``seed`` decide.
    chain
        The effects; by default those of the configuration.
    cache
        Decoded audio that other loaders share; by default one of ``trainer.cache_gib`` for this loader.
    world_size, rank
        Number of processes that train together, and which of them this is.

    Raises
    ------
    DataError
        No utterance is short enough, or ``augment.noise`` cannot be used.
    AudioError
        Noise cannot be read.
    """
    chain = build_chain(config, cuts) if chain is None else chain
    cache = AudioCache(config.trainer.cache_gib) if cache is None else cache
    dataset = SpeechDataset(config.frontend.sample_rate, chain=chain, cache=cache)
    sampler = _training_sampler(short_enough(cuts, config), config, world_size, rank)
    return _loader(dataset, sampler, config.trainer.workers)


def evaluation_loader(
    cuts: CutSet,
    config: Config,
    *,
    cache: AudioCache | None = None,
    batch_s: float | None = None,
    world_size: int = 1,
    rank: int = 0,
) -> SpeechLoader:
    """Batches of every utterance exactly once, never augmented, whatever the configuration says.

    Parameters
    ----------
    cuts
        The utterances, of any length.
    config
        Its ``trainer`` and ``frontend`` decide.
    cache
        Where decoded audio is kept for the next pass; by default nowhere.
    batch_s
        Audio in a batch, padding included, in seconds; by default ``trainer.batch_s``.
    world_size, rank
        As for :func:`training_loader`.
    """
    trainer = config.trainer
    batches = EvaluationBatches(cuts, batch_s or trainer.batch_s, trainer.max_utterances, world_size=world_size, rank=rank)
    return _loader(SpeechDataset(config.frontend.sample_rate, cache=cache), batches, trainer.workers)


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


def count_batches(cuts: CutSet, config: Config, *, epoch: int = 0, world_size: int = 1) -> int:
    """Count the batches that :func:`training_loader` gives each process in an epoch; no audio is read."""
    sampler = _training_sampler(short_enough(cuts, config), config, world_size, rank=0)
    sampler.set_epoch(epoch)
    return sum(1 for _ in sampler)


def longest_batch(cuts: CutSet, config: Config) -> Batch:
    """Read the batch that needs the most memory: the longest utterances, at the slowest speed, as many as a batch may hold.

    Raises
    ------
    AudioError
        One of them cannot be read.
    """
    from lhotse import CutSet

    limits = config.trainer
    ranked = sorted(short_enough(cuts, config), key=lambda cut: (-cut.duration, cut.id))
    n_rows = min(max(1, int(limits.batch_s / ranked[0].duration)), limits.max_utterances)
    slowest = min([1.0, *config.augment.speed])
    rate = config.frontend.sample_rate
    dataset = SpeechDataset(rate, chain=Chain(AugmentConfig(speed=[slowest]), rate))
    return dataset[CutSet.from_cuts(ranked[:n_rows])]


def _loader(dataset: SpeechDataset, sampler: Any, n_workers: int) -> SpeechLoader:
    return SpeechLoader(
        dataset, sampler=sampler, batch_size=None, num_workers=n_workers, prefetch_factor=4 if n_workers else None
    )


def _training_sampler(cuts: CutSet, config: Config, world_size: int, rank: int) -> DynamicBucketingSampler:
    from lhotse.dataset import DynamicBucketingSampler

    trainer = config.trainer
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*eagerly read CutSet")
        return DynamicBucketingSampler(
            cuts,
            max_duration=trainer.batch_s,
            max_cuts=trainer.max_utterances,
            duration_bins=_duration_bins([cut.duration for cut in cuts], trainer.buckets),
            shuffle=True,
            drop_last=False,
            # lhotse shuffles within this buffer; manifests are ordered by speaker, so it has to hold them whole.
            buffer_size=max(len(cuts), 1000),
            world_size=world_size,
            rank=rank,
            seed=config.seed,
        )


def _duration_bins(durations: Sequence[float], n_buckets: int) -> list[float]:
    """Upper bounds of all buckets but the last, such that each bucket holds about the same amount of audio."""
    ordered = np.sort(np.asarray(durations, dtype=np.float64))
    share = np.cumsum(ordered) / ordered.sum()
    bounds = {float(ordered[min(int(np.searchsorted(share, k / n_buckets)), len(ordered) - 1)]) for k in range(1, n_buckets)}
    return sorted(bound for bound in bounds if bound > ordered[0]) or [math.nextafter(float(ordered[-1]), math.inf)]
