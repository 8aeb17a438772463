"""What the network says of a corpus, computed once and kept for every decoder that is tried."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

import numpy as np
import torch

from asr.data.manifest import transcript
from asr.decoding.waveforms import log_probabilities
from asr.errors import DataError
from asr.model.acoustic import SpeechModel
from asr.scoring.evaluation import read_batches

if TYPE_CHECKING:
    from lhotse import CutSet

# Utterances handed to a decoder at once, for each of its processes.
_ROWS = 64
# Tokens that the network never writes count as this likely.
_LEAST_PRIOR = 1e-8
_BYTES = np.dtype(np.float32).itemsize


@dataclass(frozen=True, eq=False)
class Posteriors:
    """Log-probabilities of a corpus in single precision, in memory or, where that is too small, in a temporary file.

    Attributes
    ----------
    ids, texts, durations_s
        Of each utterance: its id, its transcript and its length.
    rows
        ``(frame, token)`` natural logarithms of each utterance.
    left_out
        Reason by utterance id for those whose audio could not be read.
    """

    ids: tuple[str, ...]
    texts: tuple[str, ...]
    durations_s: tuple[float, ...]
    rows: tuple[np.ndarray, ...]
    left_out: dict[str, str]

    @classmethod
    def compute(
        cls,
        cuts: CutSet,
        model: SpeechModel,
        *,
        batch_s: float,
        limit_bytes: int,
        on_progress: Callable[[float], None] | None = None,
    ) -> Posteriors:
        """Run the network over a corpus.

        Parameters
        ----------
        cuts
            Utterances with transcripts.
        model
            In evaluation mode, on the device to use.
        batch_s
            Audio in a batch (s), padding included.
        limit_bytes
            What would take more than this goes to a temporary file, which needs no memory and disappears with the process.
        on_progress
            Called after each batch with the seconds of audio in it.

        Raises
        ------
        DataError
            Where no audio can be read.
        """
        left_out: dict[str, str] = {}
        texts = {cut.id: transcript(cut) for cut in cuts}
        durations_s: dict[str, float] = {}
        rate = model.frontend.config.sample_rate
        with tempfile.TemporaryFile() as file:
            store = _Store(file if expected_bytes(cuts, model) > limit_bytes else None)
            for ids, waveforms in read_batches(cuts, model, batch_s, left_out):
                with torch.inference_mode():
                    log_probs, n_frames = log_probabilities(model, waveforms)
                for utterance, waveform, row, length in zip(ids, waveforms, log_probs, n_frames.tolist(), strict=True):
                    durations_s[utterance] = len(waveform) / rate
                    store.keep(utterance, row[:length].float().cpu().numpy())
                if on_progress is not None:
                    on_progress(sum(map(len, waveforms)) / rate)
            if not durations_s:
                raise DataError(f"no utterance could be recognised; the first reason: {next(iter(left_out.values()))}")
            rows = store.rows()
        order = [utterance for utterance in texts if utterance in rows]
        return cls(
            ids=tuple(order),
            texts=tuple(texts[utterance] for utterance in order),
            durations_s=tuple(durations_s[utterance] for utterance in order),
            rows=tuple(rows[utterance] for utterance in order),
            left_out=left_out,
        )

    @property
    def n_frames(self) -> int:
        """Frames of all utterances together."""
        return sum(map(len, self.rows))

    @property
    def n_tokens(self) -> int:
        """Tokens, the blank included."""
        return self.rows[0].shape[1]

    @property
    def n_bytes(self) -> int:
        """What the log-probabilities take."""
        return self.n_frames * self.n_tokens * _BYTES

    @property
    def on_disk(self) -> bool:
        """Whether they are in a temporary file."""
        return isinstance(self.rows[0], np.memmap)

    def audio_s(self, chosen: Sequence[int]) -> float:
        """Return the length (s) of the utterances with the given indices."""
        return sum(self.durations_s[index] for index in chosen)

    def log_priors(self) -> list[float]:
        """Return the natural logarithm of each token's mean probability over all frames, the blank first."""
        total = np.sum([np.exp(row.astype(np.float64)).sum(axis=0) for row in self.rows], axis=0)
        return [round(math.log(max(value / self.n_frames, _LEAST_PRIOR)), 4) for value in total.tolist()]

    def batches(self, chosen: Sequence[int], jobs: int = 1) -> Iterator[tuple[list[int], torch.Tensor, torch.Tensor]]:
        """Yield utterances for a decoder, the longest first.

        Parameters
        ----------
        chosen
            Indices of the utterances.
        jobs
            Processes that the decoder uses; a batch has work for all of them.

        Yields
        ------
        indices : list of int
            Of the batch's utterances.
        log_probs : torch.Tensor
            ``(batch, frame, token)``.
        n_frames : torch.Tensor
            ``(batch,)`` integers.
        """
        order = sorted(chosen, key=lambda index: (-len(self.rows[index]), index))
        for first in range(0, len(order), _ROWS * jobs):
            batch = order[first : first + _ROWS * jobs]
            rows = [torch.from_numpy(np.array(self.rows[index])) for index in batch]
            n_frames = torch.tensor([len(row) for row in rows])
            yield batch, torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), n_frames


def expected_bytes(cuts: CutSet, model: SpeechModel) -> int:
    """Return about how much the log-probabilities of a corpus take."""
    audio_s = sum(cut.duration for cut in cuts)
    return round(audio_s / model.frame_s) * model.n_tokens * _BYTES


class _Store:
    """Rows kept in memory, or in a file where there is one."""

    def __init__(self, file: IO[bytes] | None) -> None:
        self._file = file
        self._kept: dict[str, np.ndarray] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}

    def keep(self, name: str, row: np.ndarray) -> None:
        self._shapes[name] = row.shape
        if self._file is None:
            self._kept[name] = np.array(row)  # not a view of the batch, which would stay in memory whole
        else:
            self._file.write(row.tobytes())

    def rows(self) -> dict[str, np.ndarray]:
        """Return all rows by name; those of a file stay there until they are looked at."""
        if self._file is None:
            return self._kept
        self._file.flush()
        sizes = [math.prod(shape) for shape in self._shapes.values()]
        whole = np.memmap(self._file, dtype=np.float32, mode="r", shape=(sum(sizes),))
        ends = np.cumsum(sizes).tolist()
        places = zip(self._shapes.items(), sizes, ends, strict=True)
        return {name: whole[end - size : end].reshape(shape) for (name, shape), size, end in places}
