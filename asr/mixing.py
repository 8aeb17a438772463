"""Several channels to one: their mean, but where it cancels what is in them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from asr.errors import AudioError

Tell = Callable[[str], None]
"""Takes a notice about a recording: what was done that its reader should know."""

SILENT = "holds nothing but digital silence, or what is too faint for 16 bits"
"""What to say of a recording that :func:`is_silent`."""

LARGEST_SAMPLE = 8.0
"""What is larger never was sound between -1 and 1, however far it was amplified: integers that were not scaled, or noise."""

_FRAME = 1 << 12  # samples that are mixed in one way
# The mean of n channels that have nothing to do with each other has a power n times lower than theirs. Ten times lower still,
# they take each other away, as where one side of a stereo plug has its poles exchanged.
_CANCELLED = 0.1
_FAINTEST = 1e-8  # variance; what is fainter is the rounding to 16 bits
_AS_LOUD = 0.9  # as the loudest, in power: the first such channel is taken
_STAYS = 0.25  # as loud as the loudest: that channel goes on being taken
_LEAST_TOLD = 0.01  # of a recording; less may be chance, as where two microphones hear one vowel
_SILENCE = 2.0**-14  # between the least and the greatest sample: two steps of 16 bits


def mix_blocks(
    blocks: Iterable[np.ndarray], name: str, channel: int | None = None, tell: Tell | None = None
) -> Iterator[np.ndarray]:
    """Bring all channels to one. How a recording is divided into blocks changes nothing.

    Parameters
    ----------
    blocks
        ``(sample, channel)`` float32, consecutive.
    name
        What to call the recording in an error.
    channel
        The channel to take, counted from 0; ``None`` takes the mean of all. Where they cancel each other, and nearly nothing
        is left in their mean, one of the loudest is taken instead.
    tell
        Told at the end, if it was so in 1 % of the recording.

    Yields
    ------
    numpy.ndarray
        ``(sample,)`` float32.

    Raises
    ------
    AudioError
        There is no such channel, or values cannot be samples.
    """
    mixer = _Mixer(channel, name)
    pending = np.zeros((0, 0), np.float32)
    for block in blocks:
        if len(pending) and pending.shape[1] != block.shape[1]:
            yield mixer.mix(pending)
            pending = pending[:0]
        samples = np.concatenate([pending, block]) if len(pending) else block
        n_whole = len(samples) if samples.shape[1] == 1 or channel is not None else len(samples) // _FRAME * _FRAME
        pending = samples[n_whole:]
        if n_whole:
            yield mixer.mix(samples[:n_whole])
    if len(pending):
        yield mixer.mix(pending)
    if mixer.n_cancelled and mixer.n_cancelled >= _LEAST_TOLD * mixer.n_mixed and tell is not None:
        tell(
            f"its channels cancel each other in {mixer.n_cancelled / mixer.n_mixed:.0%} of it, "
            f"where channel {mixer.taken} was taken alone; is another one inverted?"
        )


def to_mono(samples: np.ndarray, name: str, channel: int | None = None, tell: Tell | None = None) -> np.ndarray:
    """Bring all channels of a whole recording, ``(sample, channel)`` floats, to one; see :func:`mix_blocks`."""
    blocks = list(mix_blocks([samples], name, channel, tell))
    return blocks[0] if len(blocks) == 1 else np.concatenate([np.zeros(0, np.float32), *blocks])


def is_silent(waveform: np.ndarray) -> bool:
    """Say whether nothing but a constant and the rounding to 16 bits is in ``(sample,)`` floats in [-1, 1]."""
    return not len(waveform) or float(waveform.max()) - float(waveform.min()) <= _SILENCE


class _Mixer:
    """Mixes whole frames, and remembers what was done.

    Attributes
    ----------
    n_mixed, n_cancelled
        Samples that were mixed, and those among them that one channel was taken for.
    taken
        The last channel that was taken where all cancel.
    """

    def __init__(self, channel: int | None, name: str) -> None:
        self.n_mixed = self.n_cancelled = self.taken = 0
        self._channel = channel
        self._name = name
        self._cancels: bool | None = None

    def mix(self, samples: np.ndarray) -> np.ndarray:
        """Bring ``(sample, channel)`` to ``(sample,)``; what is not a whole frame is the recording's end."""
        n_channels = samples.shape[1]
        if self._channel is not None and not 0 <= self._channel < n_channels:
            there = f"channels 0 to {n_channels - 1}" if n_channels > 1 else "channel 0 alone"
            raise AudioError(f"{self._name}: has no channel {self._channel}; it has {there}")
        if self._channel is not None or n_channels == 1:
            return self._checked(samples[:, self._channel or 0])
        with np.errstate(all="ignore"):
            mixed = samples @ np.full(n_channels, 1 / n_channels, samples.dtype)
            for start in range(0, len(samples), _FRAME):
                frame = samples[start : start + _FRAME]
                if len(frame) == _FRAME or self._cancels is None:
                    self._judge(frame)
                if self._cancels:
                    mixed[start : start + len(frame)] = frame[:, self.taken]
                    self.n_cancelled += len(frame)
        self.n_mixed += len(samples)
        return self._checked(mixed)

    def _judge(self, frame: np.ndarray) -> None:
        """Find whether a frame's channels cancel each other, and which is to be taken."""
        mean = np.full(len(frame), 1 / len(frame), frame.dtype) @ frame
        covariance = (frame.T @ frame) / len(frame) - np.outer(mean, mean)
        powers = covariance.diagonal()
        # The power of the mean over what it is for channels that have nothing to do with each other.
        self._cancels = bool(covariance.sum() < _CANCELLED * powers.sum() and powers.max() > _FAINTEST)
        if self._cancels and not (
            self.taken < len(powers) and powers[self.taken] >= _STAYS * powers.max() and self.n_cancelled
        ):
            self.taken = int((powers >= _AS_LOUD * powers.max()).argmax())

    def _checked(self, waveform: np.ndarray) -> np.ndarray:
        largest = max(waveform.max(initial=0.0), -waveform.min(initial=0.0))
        if not largest <= LARGEST_SAMPLE:  # nor is NaN
            if n_bad := int((~np.isfinite(waveform)).sum()):
                raise AudioError(f"{self._name}: {n_bad} of {len(waveform)} samples are NaN or infinite")
            raise AudioError(
                f"{self._name}: has samples as large as {largest:.6g}, expected floats from -1 to 1; divide integers that "
                "became floats by 2**(bits - 1), as 16-bit ones by 32768, unless it is corrupt"
            )
        return np.ascontiguousarray(waveform, dtype=np.float32)
