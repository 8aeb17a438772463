"""A run's data as Lightning wants it: an epoch that can be entered in its middle."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, Protocol

from lightning.pytorch import LightningDataModule, Trainer


class Epochs(Protocol):
    """The batches of all epochs, whose order follows from the epoch's number."""

    def epoch(self, number: int, skip: int = 0) -> Iterator[Any]:
        """Yield the batches of an epoch, without the first so many."""


class TrainingData(LightningDataModule):
    """What a network is trained on.

    A checkpoint holds how many batches of its epoch were done, so that a resumed run passes over as many without reading them.

    Attributes
    ----------
    epoch_batches
        Batches of each process in every epoch.
    validated_after
        Batches of an epoch after which it is validated, beside its last one.
    patience
        Validations without better weights after which the run is complete; 0 waits for its last epoch.
    """

    epoch_batches: int
    validated_after: Collection[int] = ()
    patience: int = 0

    def __init__(self) -> None:
        super().__init__()
        self.batches_done = 0

    def resumable(self, epochs: Epochs) -> CurrentEpoch:
        """Return the loader for Lightning."""
        assert self.trainer is not None
        return CurrentEpoch(self.trainer, epochs, self.batches_done)

    def state_dict(self) -> dict[str, Any]:
        assert self.trainer is not None
        progress = self.trainer.fit_loop.epoch_loop.batch_progress
        # Counted after the optimiser's step and before the callbacks that write checkpoints, unlike "completed".
        return {"batches_done": 0 if progress.is_last_batch else progress.state_dict()["current"]["processed"]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.batches_done = state_dict["batches_done"]

    def close(self) -> None:
        """End what reads beside the training."""


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

    def __init__(self, trainer: Trainer, loader: Epochs, batches_done: int) -> None:
        self.trainer = trainer
        self.loader = loader
        self.batches_done = batches_done
        self.resumed_epoch = self.epoch

    @property
    def epoch(self) -> int:
        """Number of the epoch, from 0: as many are done, validation included or not."""
        return int(self.trainer.fit_loop.epoch_progress.state_dict()["current"]["processed"])

    def __iter__(self) -> Iterator[Any]:
        return self.loader.epoch(self.epoch, self.batches_done if self.epoch == self.resumed_epoch else 0)
