"""The run's data as Lightning wants it: loaders made in each process, and an epoch that can be entered in its middle."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from lightning.pytorch import LightningDataModule

from asr.config import Config
from asr.data.batches import SpeechLoader, evaluation_loader, training_loader
from asr.data.chain import build_chain
from asr.data.reading import AudioCache

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

    Raises
    ------
    DataError, AudioError
        For noise that cannot be used.
    """

    def __init__(self, train: CutSet, dev: CutSet | None, config: Config) -> None:
        super().__init__()
        self.train = train
        self.dev = dev
        self.config = config
        self.chain = build_chain(config, train)
        self.cache = AudioCache(config.trainer.cache_gib)
        self.skip = 0

    def train_dataloader(self) -> SpeechLoader:
        trainer = self.trainer
        assert trainer is not None
        loader = training_loader(
            self.train,
            self.config,
            chain=self.chain,
            cache=self.cache,
            world_size=trainer.world_size,
            rank=trainer.global_rank,
        )
        if self.skip:
            loader = SpeechLoader(
                loader.dataset, sampler=SkipFirst(loader.sampler, self.skip), batch_size=None, num_workers=loader.num_workers
            )
            self.skip = 0
        return loader

    def val_dataloader(self) -> SpeechLoader | list[Any]:
        if self.dev is None:
            return []
        trainer = self.trainer
        assert trainer is not None
        return evaluation_loader(
            self.dev, self.config, cache=self.cache, world_size=trainer.world_size, rank=trainer.global_rank
        )

    def state_dict(self) -> dict[str, Any]:
        assert self.trainer is not None
        progress = self.trainer.fit_loop.epoch_loop.batch_progress
        # Counted after the optimiser's step and before the callbacks that write checkpoints, unlike "completed".
        return {"batches_done": 0 if progress.is_last_batch else progress.state_dict()["current"]["processed"]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.skip = state_dict["batches_done"]


class SkipFirst:
    """A sampler whose first pass begins after so many batches; later passes are whole.

    Parameters
    ----------
    sampler
        The sampler of whole epochs.
    n_batches
        Batches to leave out.
    """

    def __init__(self, sampler: Any, n_batches: int) -> None:
        self.sampler = sampler
        self.n_batches = n_batches

    @property
    def epoch(self) -> int:
        """Epoch of the sampler."""
        return int(self.sampler.epoch)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next pass."""
        self.sampler.set_epoch(epoch)

    def __iter__(self) -> Iterator[Any]:
        n_batches, self.n_batches = self.n_batches, 0
        return islice(iter(self.sampler), n_batches, None)
