"""Utterances to padded batches: decoded audio kept in memory, perturbed, and the order of an epoch.

Everything random here follows from the seed, the epoch and the utterance's id, so a run repeats whatever the number of worker
processes: exactly where all have as many threads (a worker has one), to the last bit of resampling otherwise.
"""

from __future__ import annotations

import hashlib
import logging
import math
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from asr.audio import load_audio, resample
from asr.config import Config
from asr.data.batch import Batch
from asr.data.manifest import transcript
from asr.data.perturb import change_speed, through_mp3
from asr.errors import AudioError, DataError

if TYPE_CHECKING:
    from lhotse import CutSet
    from lhotse.cut import Cut
    from lhotse.dataset import DynamicBucketingSampler

logger = logging.getLogger(__name__)

_INT16_SCALE = 32768.0


class AudioCache:
    """Decoded waveforms as 16-bit integers, the least recently used ones dropped when the limit is reached.

    Parameters
    ----------
    limit_gib
        Memory to use at most, in GiB; 0 keeps nothing. An hour at 16 kHz takes 0.11 GiB.
    """

    def __init__(self, limit_gib: float) -> None:
        self.limit_bytes = int(limit_gib * 2**30)
        self.n_bytes = 0
        self._entries: OrderedDict[str, np.ndarray] = OrderedDict()

    def get(self, key: str) -> np.ndarray | None:
        """Return ``(sample,)`` int16, or nothing if it is not kept."""
        samples = self._entries.get(key)
        if samples is not None:
            self._entries.move_to_end(key)
        return samples

    def put(self, key: str, samples: np.ndarray) -> None:
        """Keep ``(sample,)`` int16."""
        if samples.nbytes > self.limit_bytes or key in self._entries:
            return
        self._entries[key] = samples
        self.n_bytes += samples.nbytes
        while self.n_bytes > self.limit_bytes:
            self.n_bytes -= self._entries.popitem(last=False)[1].nbytes


class SpeechDataset(Dataset[Batch]):
    """Turns the cuts that a sampler chose into a :class:`Batch`.

    Parameters
    ----------
    sample_rate
        Rate of the waveforms (Hz).
    speeds
        Factors of which each utterance is given one anew in each epoch: 1.1 makes it 10 % shorter and its pitch higher.
        Empty is off.
    mp3_kbps, mp3_fraction
        Bit rates (kbit/s) of which this share of the utterances is given one anew in each epoch. Empty is off.
    seed
        Decides these, together with the epoch and the utterance's id.
    cache
        Where decoded audio is kept.
    """

    def __init__(
        self,
        sample_rate: int,
        *,
        speeds: Sequence[float] = (),
        mp3_kbps: Sequence[int] = (),
        mp3_fraction: float = 0.0,
        seed: int = 0,
        cache: AudioCache | None = None,
    ) -> None:
        self.sample_rate = sample_rate
        self.speeds = tuple(speeds)
        self.mp3_kbps = tuple(mp3_kbps)
        self.mp3_fraction = mp3_fraction
        self.seed = seed
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

    def speed(self, utterance_id: str) -> float:
        """Return the factor that an utterance is given in the current epoch."""
        if not self.speeds:
            return 1.0
        return self.speeds[self._draw("", utterance_id) % len(self.speeds)]

    def bit_rate(self, utterance_id: str) -> int | None:
        """Return the bit rate of MP3 (kbit/s) that an utterance goes through in the current epoch, if any."""
        if not self.mp3_kbps or self._draw("mp3 ", utterance_id) / 2**64 >= self.mp3_fraction:
            return None
        return self.mp3_kbps[self._draw("kbps ", utterance_id) % len(self.mp3_kbps)]

    def _draw(self, purpose: str, utterance_id: str) -> int:
        """Return a random number of 64 bits that the seed, the epoch and the utterance decide."""
        text = f"{purpose}{self.seed} {self.epoch} {utterance_id}"
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")

    def _waveform(self, cut: Cut) -> np.ndarray:
        """``(sample,)`` float32 of one utterance, perturbed."""
        key = f"{cut.id} {_plain_file(cut)} {cut.start} {cut.duration} {self.sample_rate}"
        samples = self.cache.get(key)
        if samples is None:
            waveform = _read_cut(cut, self.sample_rate)
            if self.cache.limit_bytes:
                # The first epoch takes the rounded samples too: every epoch sees the same audio.
                samples = np.clip(np.rint(waveform * _INT16_SCALE), -32768, 32767).astype(np.int16)
                self.cache.put(key, samples)
        if samples is not None:
            waveform = samples.astype(np.float32) / np.float32(_INT16_SCALE)
        waveform = change_speed(waveform, self.speed(cut.id))
        kbps = self.bit_rate(cut.id)
        return waveform if kbps is None else through_mp3(waveform, self.sample_rate, kbps)


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
    cuts: CutSet, config: Config, *, cache: AudioCache | None = None, world_size: int = 1, rank: int = 0
) -> SpeechLoader:
    """Shuffled batches of similar durations, perturbed.

    Parameters
    ----------
    cuts
        The training utterances; those longer than ``trainer.max_duration_s`` are reported and left out.
    config
        Its ``trainer``, ``augment``, ``frontend`` and ``seed`` decide.
    cache
        Decoded audio that other loaders share; by default one of ``trainer.cache_gib`` for this loader.
    world_size, rank
        Number of processes that train together, and which of them this is.

    Raises
    ------
    DataError
        No utterance is short enough.
    """
    speeds = tuple(config.augment.speed)
    if set(speeds) <= {1.0}:
        speeds = ()
    if cache is None:
        cache = AudioCache(config.trainer.cache_gib)
    dataset = SpeechDataset(
        config.frontend.sample_rate,
        speeds=speeds,
        mp3_kbps=config.augment.mp3_kbps,
        mp3_fraction=config.augment.mp3_fraction,
        seed=config.seed,
        cache=cache,
    )
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
    dataset = SpeechDataset(config.frontend.sample_rate, speeds=(slowest,))
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


def _read_cut(cut: Cut, sample_rate: int) -> np.ndarray:
    """``(sample,)`` float32 of a cut: straight from its file where there is one, through lhotse otherwise."""
    try:
        path = _plain_file(cut)
        if path is not None:
            whole = cut.start == 0 and abs(cut.duration - cut.recording.duration) < 1e-3
            return load_audio(path, sample_rate, offset_s=cut.start, duration_s=None if whole else cut.duration)
        return _read_with_lhotse(cut, sample_rate)
    except AudioError as error:
        raise AudioError(f"utterance {cut.id}: {error}") from None


def _plain_file(cut: Cut) -> str | None:
    """Return the file of a cut that is a stretch of a whole recording, all channels together."""
    recording = getattr(cut, "recording", None)
    if recording is None or len(recording.sources) != 1 or recording.transforms or recording.sources[0].type != "file":
        return None
    n_channels = len(cut.channel) if isinstance(cut.channel, list) else 1
    return recording.sources[0].source if n_channels == recording.num_channels else None


def _read_with_lhotse(cut: Cut, sample_rate: int) -> np.ndarray:
    try:
        channels = cut.load_audio()
    except Exception as error:  # lhotse raises many kinds, some of its own
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise AudioError(f"cannot be read by lhotse: {reason}") from error
    if channels is None or channels.size == 0:
        raise AudioError("the cut has no recording; expected audio, not features alone")
    waveform = np.asarray(channels, dtype=np.float32).mean(axis=0)
    if not np.isfinite(waveform).all():
        raise AudioError("holds values that are NaN or infinite")
    return resample(waveform, cut.sampling_rate, sample_rate)
