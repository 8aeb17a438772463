"""The utterances of a run as Lightning wants them: loaders made in each process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from asr.config import Config
from asr.data.batch import Batch
from asr.data.batches import SpeechLoader, TrainingLoader, evaluation_loader, training_loader
from asr.data.chain import build_chain
from asr.data.order import TrainingOrder
from asr.data.reading import AudioMemory
from asr.data.speaking import count_processors
from asr.engine.data import CurrentEpoch, TrainingData

if TYPE_CHECKING:
    from lhotse import CutSet


class SpeechData(TrainingData):
    """Training and development utterances.

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
        self.chain = build_chain(config, train)
        self.memory = AudioMemory(config.frontend.sample_rate, config.trainer.cache_gib, [*(dev or ()), *train])
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
        return self.resumable(self._train_loader)

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

    def close(self) -> None:
        for loader in (self._train_loader, self._dev_loader):
            if loader is not None:
                loader.close()


def count_workers(config: Config, on_gpu: bool) -> int:
    """Return ``trainer.workers``; -1 is a GPU's share of the processor's cores but one, and none for training on the CPU."""
    if config.trainer.workers >= 0:
        return config.trainer.workers
    if not on_gpu:
        return 0
    return max(1, count_processors() // config.trainer.devices - 1)
