"""Utterances to padded batches: read, perturbed, and made ahead by processes beside the one that trains.

Everything random here follows from the seed, the epoch and the utterance's id, audio is rounded to 16 bits whether memory keeps
it or not, and each utterance is computed in one thread: a run repeats to the last bit, whatever the number of worker processes
and the size of the memory.
"""

from __future__ import annotations

import gc
import signal
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from asr.config import AugmentConfig, Config
from asr.data.batch import Batch
from asr.data.chain import Chain, build_chain
from asr.data.manifest import transcript
from asr.data.order import EvaluationBatches, TrainingOrder, short_enough
from asr.data.reading import AudioMemory
from asr.errors import AsrError

if TYPE_CHECKING:
    from lhotse import CutSet
    from lhotse.cut import Cut

_AHEAD = 2  # batches that each worker makes before they are asked for


@dataclass(frozen=True)
class Work:
    """What makes a batch: its utterances, and the epoch (from 0) whose augmentation they have."""

    cuts: Sequence[Cut]
    epoch: int = 0


class SpeechDataset(Dataset["Batch | AsrError"]):
    """Makes batches.

    Parameters
    ----------
    memory
        Reads audio, and keeps it.
    chain
        Effects that each utterance goes through; nothing leaves it as it was recorded.
    """

    def __init__(self, memory: AudioMemory, chain: Chain | None = None) -> None:
        self.memory = memory
        self.chain = chain

    def __getitem__(self, work: Work) -> Batch | AsrError:
        """Make a batch; what is wrong with an utterance is returned, for raising in the process that asked."""
        try:
            return self.read(work)
        except AsrError as error:
            return error

    def read(self, work: Work) -> Batch:
        """Make a batch.

        Raises
        ------
        AudioError
            An utterance cannot be read; the message names it and its file.
        """
        with _one_thread():
            waveforms = [self._waveform(cut, work.epoch) for cut in work.cuts]
        n_samples = torch.tensor([len(waveform) for waveform in waveforms], dtype=torch.int64)
        padded = torch.zeros(len(waveforms), int(n_samples.max()))
        for row, waveform in zip(padded, waveforms, strict=True):
            row[: len(waveform)] = torch.from_numpy(waveform)
        ids = tuple(cut.id for cut in work.cuts)
        return Batch(ids, padded, n_samples, tuple(map(transcript, work.cuts)), self.memory.sample_rate)

    def _waveform(self, cut: Cut, epoch: int) -> np.ndarray:
        """``(sample,)`` float32 of one utterance."""
        waveform = self.memory.read(cut)
        return waveform if self.chain is None else self.chain(waveform, cut.id, epoch)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch compute in one thread, as a worker does: resampling sums in another order with more."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)


class SpeechLoader(DataLoader["Batch | AsrError"]):
    """Batches of given work, in its order, made here or by worker processes that stay until :meth:`close`.

    Workers see no Ctrl-C and no SIGTERM: the process that they work for has those too, and ends them.

    Parameters
    ----------
    dataset
        Makes the batches.
    work
        What to make.
    n_workers
        Processes beside this one; 0 makes each batch when it is asked for.
    pinned
        Put batches where a GPU can fetch them by itself.
    """

    def __init__(self, dataset: SpeechDataset, work: Iterable[Work], *, n_workers: int = 0, pinned: bool = False) -> None:
        super().__init__(
            dataset,
            sampler=work,
            batch_size=None,
            num_workers=n_workers,
            prefetch_factor=_AHEAD if n_workers else None,
            persistent_workers=n_workers > 0,
            multiprocessing_context="fork" if n_workers else None,  # they share the memory of decoded audio
            worker_init_fn=_settle,
            pin_memory=pinned,
            generator=torch.Generator(),  # else each pass would draw from the numbers that masks and dropout draw from
        )

    def __iter__(self) -> Any:
        with _signals_held():  # a worker never lets them go again
            batches = super().__iter__()
        return map(_raised, batches)

    def close(self) -> None:
        """End the workers."""
        if self._iterator is not None and self.num_workers:
            self._iterator._shutdown_workers()  # type: ignore[attr-defined]
        self._iterator = None


def _settle(worker_id: int) -> None:
    """Leave alone what the parent process holds: looking through it for garbage would copy it into each worker."""
    gc.freeze()


def _raised(made: Batch | AsrError) -> Batch:
    if isinstance(made, AsrError):
        raise made
    return made


@contextmanager
def _signals_held() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class TrainingLoader:
    """The batches of all epochs, out of one stream: while an epoch ends, workers make the first batches of the next.

    Parameters
    ----------
    dataset
        Makes the batches.
    order
        Of the batches.
    n_epochs
        Epochs of the whole run.
    n_workers, pinned
        As for :class:`SpeechLoader`.
    """

    def __init__(
        self, dataset: SpeechDataset, order: TrainingOrder, n_epochs: int, *, n_workers: int = 0, pinned: bool = False
    ) -> None:
        self.dataset = dataset
        self.order = order
        self.n_epochs = n_epochs
        self.n_workers = n_workers
        self.pinned = pinned
        self._loader: SpeechLoader | None = None
        self._stream: Iterator[Batch] = iter(())
        self._place: tuple[int, int] | None = None  # epoch and batch of the stream's next one

    def epoch(self, number: int, skip: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch.

        Parameters
        ----------
        number
            Of the epoch, from 0.
        skip
            Batches to leave out at its beginning.
        """
        for done in range(skip, len(self.order)):
            if self._place != (number, done):
                self._open(number, done)
            batch = next(self._stream)
            self._place = (number, done + 1) if done + 1 < len(self.order) else (number + 1, 0)
            yield batch

    def _open(self, epoch: int, skip: int) -> None:
        """Begin a stream at a batch of an epoch."""
        self.close()
        self._loader = SpeechLoader(self.dataset, self._work(epoch, skip), n_workers=self.n_workers, pinned=self.pinned)
        self._stream = iter(self._loader)

    def _work(self, first: int, skip: int) -> Iterator[Work]:
        for epoch in range(first, max(self.n_epochs, first + 1)):
            for cuts in islice(self.order.epoch(epoch), skip if epoch == first else 0, None):
                yield Work(cuts, epoch)

    def close(self) -> None:
        """End the workers."""
        if self._loader is not None:
            self._loader.close()
        self._loader, self._stream, self._place = None, iter(()), None


def training_loader(
    cuts: CutSet,
    config: Config,
    *,
    chain: Chain | None = None,
    memory: AudioMemory | None = None,
    n_workers: int = 0,
    pinned: bool = False,
    world_size: int = 1,
    rank: int = 0,
) -> TrainingLoader:
    """Shuffled batches of similar durations, perturbed.

    Parameters
    ----------
    cuts
        The training utterances; those longer than ``trainer.max_duration_s`` are reported and left out.
    config
        Its ``trainer``, ``augment``, ``frontend`` and ``seed`` decide.
    chain
        The effects; by default those of the configuration.
    memory
        Decoded audio that other loaders share; by default one of ``trainer.cache_gib`` for this loader.
    n_workers, pinned
        As for :class:`SpeechLoader`.
    world_size, rank
        Number of processes that train together, and which of them this is.

    Raises
    ------
    DataError
        No utterance is short enough, or ``augment.noise`` cannot be used.
    AudioError
        Noise cannot be read.
    ConfigError
        There are more processes than utterances, or memory cannot be had.
    """
    chain = build_chain(config, cuts) if chain is None else chain
    cuts = short_enough(cuts, config)
    memory = AudioMemory(config.frontend.sample_rate, config.trainer.cache_gib, cuts) if memory is None else memory
    order = TrainingOrder(cuts, config, world_size=world_size, rank=rank)
    return TrainingLoader(SpeechDataset(memory, chain), order, config.trainer.epochs, n_workers=n_workers, pinned=pinned)


def evaluation_loader(
    cuts: CutSet,
    config: Config,
    *,
    memory: AudioMemory | None = None,
    n_workers: int = 0,
    pinned: bool = False,
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
    memory
        Where decoded audio is kept for the next pass; by default nowhere.
    n_workers, pinned
        As for :class:`SpeechLoader`.
    world_size, rank
        As for :func:`training_loader`.
    """
    trainer = config.trainer
    batches = EvaluationBatches(cuts, trainer.batch_s, trainer.max_utterances, world_size=world_size, rank=rank)
    dataset = SpeechDataset(AudioMemory(config.frontend.sample_rate) if memory is None else memory)
    return SpeechLoader(dataset, [Work(batch) for batch in batches], n_workers=n_workers, pinned=pinned)


def longest_batch(cuts: CutSet, config: Config) -> Batch:
    """Read the batch that needs the most memory: the longest utterances, at the slowest speed, as many as a batch may hold.

    Raises
    ------
    AudioError
        One of them cannot be read.
    """
    limits = config.trainer
    ranked = sorted(short_enough(cuts, config), key=lambda cut: (-cut.duration, cut.id))
    n_rows = min(max(1, int(limits.batch_s / ranked[0].duration)), limits.max_utterances)
    rate = config.frontend.sample_rate
    slowest = Chain(AugmentConfig(speed=[min([1.0, *config.augment.speed])]), rate)
    return SpeechDataset(AudioMemory(rate), slowest).read(Work(ranked[:n_rows]))
