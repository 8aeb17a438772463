"""The one object that travels from the data room to training, evaluation and transcription."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch


@dataclass(frozen=True)
class Batch:
    """Utterances padded to a common length.

    Attributes
    ----------
    ids
        Utterance ids, ``batch`` of them.
    waveforms
        ``(batch, sample)`` float32 in [-1, 1], zero beyond each utterance's end.
    n_samples
        ``(batch,)`` int64, the true length of each waveform.
    texts
        Transcripts as the manifest has them; empty strings where there are none.
    sample_rate
        Samples a second, the same for all.
    """

    ids: tuple[str, ...]
    waveforms: torch.Tensor
    n_samples: torch.Tensor
    texts: tuple[str, ...]
    sample_rate: int

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def audio_s(self) -> float:
        """Seconds of audio, padding not counted."""
        return int(self.n_samples.sum()) / self.sample_rate

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """Return the batch with its tensors on another device."""
        return replace(
            self,
            waveforms=self.waveforms.to(device, non_blocking=non_blocking),
            n_samples=self.n_samples.to(device, non_blocking=non_blocking),
        )

    def pin_memory(self) -> Batch:
        """Return the batch where a GPU can fetch it by itself."""
        return replace(self, waveforms=self.waveforms.pin_memory(), n_samples=self.n_samples.pin_memory())
