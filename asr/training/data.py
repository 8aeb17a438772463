"""The run's data as Lightning wants it: loaders made in each process, and an epoch that can be entered in its middle."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import LightningDataModule, Trainer

from asr.config import Config
from asr.data.batch import Batch
from asr.data.batches import SpeechLoader, TrainingLoader, evaluation_loader, training_loader
from asr.data.chain import build_chain
from asr.data.order import TrainingOrder
from asr.data.reading import AudioMemory
from asr.data.speaking import count_processors

if TYPE_CHECKING:
    from lhotse import CutSet


class SpeechData(LightningDataModule):
    """Training and development utterances.

    A checkpoint holds how many batches of its epoch were done. The order of an epoch follows from the seed and its number,
    so a resumed run passes over as many without reading their audio.

    Parameters
    ----------
    train, dev
        Utterances; ``dev`` may be None.
    config
        The whole configuration.
    on_gpu
        Whether batches go to a GPU.

    Raises
    ------
    DataError, AudioError
        For noise that cannot be used.
    ConfigError
        There are more processes than utterances, or memory cannot be had.
    """

    def __init__(self, train: CutSet, dev: CutSet | None, config: Config, *, on_gpu: bool = False) -> None:
        super().__init__()
        self.train = train
        self.dev = dev
        self.config = config
        self.on_gpu = on_gpu
        self.n_workers = count_workers(config, on_gpu)
        self.epoch_batches = len(TrainingOrder(train, config, world_size=config.trainer.devices))
        """Batches of each process in every epoch."""
        self.chain = build_chain(config, train)
        self.memory = AudioMemory(config.frontend.sample_rate, config.trainer.cache_gib, [*(dev or ()), *train])
        self.batches_done = 0
        self._train_loader: TrainingLoader | None = None
        self._dev_loader: SpeechLoader | None = None

    def train_dataloader(self) -> CurrentEpoch:
        trainer = self.trainer
        assert trainer is not None
        self._train_loader = training_loader(
            self.train,
            self.config,
            chain=self.chain,
            memory=self.memory,
            n_workers=self.n_workers,
            pinned=self.on_gpu,
            world_size=trainer.world_size,
            rank=trainer.global_rank,
        )
        return CurrentEpoch(trainer, self._train_loader, self.batches_done)

    def val_dataloader(self) -> SpeechLoader | list[Any]:
        if self.dev is None:
            return []
        trainer = self.trainer
        assert trainer is not None
        self._dev_loader = evaluation_loader(
            self.dev,
            self.config,
            memory=self.memory,
            n_workers=self.n_workers,
            pinned=self.on_gpu,
            world_size=trainer.world_size,
            rank=trainer.global_rank,
        )
        return self._dev_loader

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        return batch.to(device, non_blocking=True)

    def state_dict(self) -> dict[str, Any]:
        assert self.trainer is not None
        progress = self.trainer.fit_loop.epoch_loop.batch_progress
        # Counted after the optimiser's step and before the callbacks that write checkpoints, unlike "completed".
        return {"batches_done": 0 if progress.is_last_batch else progress.state_dict()["current"]["processed"]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.batches_done = state_dict["batches_done"]

    def close(self) -> None:
        """End the worker processes."""
        for loader in (self._train_loader, self._dev_loader):
            if loader is not None:
                loader.close()


class CurrentEpoch:
    """The batches of the epoch in which a run is: each pass asks the run, which knows it from its checkpoint.

    Lightning begins passes that it does not finish, so nothing is counted by them.

    Parameters
    ----------
    trainer
        Of the run, its checkpoint loaded.
    loader
        Of all epochs.
    batches_done
        Batches of the present epoch that are done.
    """

    def __init__(self, trainer: Trainer, loader: TrainingLoader, batches_done: int) -> None:
        self.trainer = trainer
        self.loader = loader
        self.batches_done = batches_done
        self.resumed_epoch = self.epoch

    @property
    def epoch(self) -> int:
        """Number of the epoch, from 0: as many are done, validation included or not."""
        return int(self.trainer.fit_loop.epoch_progress.state_dict()["current"]["processed"])

    def __iter__(self) -> Iterator[Batch]:
        return self.loader.epoch(self.epoch, self.batches_done if self.epoch == self.resumed_epoch else 0)


def count_workers(config: Config, on_gpu: bool) -> int:
    """Return ``trainer.workers``; -1 is a GPU's share of the processor's cores but one, and none for training on the CPU."""
    if config.trainer.workers >= 0:
        return config.trainer.workers
    if not on_gpu:
        return 0
    return max(1, count_processors() // config.trainer.devices - 1)
