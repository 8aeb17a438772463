"""Noise to mix with training speech: recorded, generated, or other people talking."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from asr.audio import load_audio
from asr.audio_folder import find_audio
from asr.config import Config
from asr.data.manifest import read_manifest
from asr.data.reading import from_int16, read_cut, to_int16
from asr.errors import AudioError, DataError
from asr.mixing import SILENT, is_silent

if TYPE_CHECKING:
    from lhotse import CutSet
    from lhotse.cut import Cut

logger = logging.getLogger(__name__)

COLOURS = {"white": 0.0, "pink": 1.0, "brown": 2.0}
"""Generated noise by name: its power falls with this power of the frequency."""

BABBLE = "babble"
"""Noise of several training utterances at once."""

_LOWEST_HZ = 20.0  # generated noise has nothing below: it could not be heard, but would count as noise
_VOICES = (3, 7)
_BABBLE_POOL = 100  # utterances
_MOST_HOURS = 20.0


class Noise(Protocol):
    """Where noise comes from."""

    def draw(self, rng: np.random.Generator, n_samples: int) -> np.ndarray:
        """Return ``(n_samples,)`` float32 of any loudness."""


class ColouredNoise:
    """Gaussian noise whose power falls with the frequency.

    Parameters
    ----------
    slope
        The power at frequency ``f`` is proportional to ``f ** -slope``: 0 is white, 1 pink, 2 brown.
    sample_rate
        Rate of the noise (Hz).
    """

    def __init__(self, slope: float, sample_rate: int) -> None:
        self.slope = slope
        self.sample_rate = sample_rate

    def draw(self, rng: np.random.Generator, n_samples: int) -> np.ndarray:
        """Return ``(n_samples,)`` float32."""
        size = 1 << max(1, n_samples - 1).bit_length()
        frequencies = np.fft.rfftfreq(size, 1 / self.sample_rate).astype(np.float32)
        weights = np.zeros_like(frequencies)
        heard = frequencies >= _LOWEST_HZ
        weights[heard] = (frequencies[heard] / _LOWEST_HZ) ** (-self.slope / 2)
        parts = rng.standard_normal((2, len(frequencies)), dtype=np.float32) * weights
        noise: np.ndarray = np.fft.irfft(parts[0] + 1j * parts[1], size)[:n_samples].astype(np.float32)
        return noise


class RecordedNoise:
    """Stretches of recordings, repeated where a recording is shorter than the speech.

    Parameters
    ----------
    recordings
        Each ``(sample,)`` int16.
    """

    def __init__(self, recordings: Sequence[np.ndarray]) -> None:
        self.recordings = recordings

    def draw(self, rng: np.random.Generator, n_samples: int) -> np.ndarray:
        """Return ``(n_samples,)`` float32 of one recording, from anywhere in it."""
        recording = self.recordings[int(rng.integers(len(self.recordings)))]
        start = rng.integers(len(recording))
        return from_int16(recording.take(np.arange(start, start + n_samples), mode="wrap"))


class Babble(RecordedNoise):
    """Three to seven recordings at once, each as loud as the others."""

    def draw(self, rng: np.random.Generator, n_samples: int) -> np.ndarray:
        """Return ``(n_samples,)`` float32."""
        mixed = np.zeros(n_samples, dtype=np.float32)
        for _ in range(rng.integers(_VOICES[0], _VOICES[1] + 1)):
            voice = super().draw(rng, n_samples)
            mixed += voice / np.float32(max(_power(voice), 1e-12) ** 0.5)
        return mixed


def noise_digest(noises: Iterable[Noise]) -> str | None:
    """Return hexadecimal digits that change with any sample of recorded noise; none where there is none."""
    recorded = [recording for noise in noises if isinstance(noise, RecordedNoise) for recording in noise.recordings]
    digest = hashlib.blake2b(digest_size=8)
    for recording in recorded:
        digest.update(len(recording).to_bytes(8, "little") + np.ascontiguousarray(recording).tobytes())
    return digest.hexdigest() if recorded else None


def add_noise(speech: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """Mix speech with noise.

    Parameters
    ----------
    speech, noise
        ``(sample,)`` float32.
    snr_db
        Power of the speech over that of the noise (dB), each over the whole stretch.

    Returns
    -------
    numpy.ndarray
        ``(sample,)`` float32; the speech as it was where either is digital silence.
    """
    power, noise_power = _power(speech), _power(noise)
    if not power or not noise_power:
        return speech
    return speech + noise * np.float32((power / noise_power) ** 0.5 * 10 ** (-snr_db / 20))


def _power(waveform: np.ndarray) -> float:
    """Mean square, without the rounding of a float32 sum over minutes."""
    return float(np.mean(np.square(waveform), dtype=np.float64))


def read_noises(config: Config, cuts: CutSet) -> list[Noise]:
    """Make what ``augment.noise`` names; recordings are decoded at once and kept, 0.11 GiB an hour at 16 kHz.

    Parameters
    ----------
    config
        Its ``augment``, ``corpus.manifests`` and ``frontend`` decide.
    cuts
        The training utterances, for babble.

    Raises
    ------
    DataError
        What is named is neither a kind of noise nor a manifest nor a folder with audio, or is too much.
    AudioError
        A recording cannot be read.
    """
    rate = config.frontend.sample_rate
    known: dict[str, Noise] = {}
    for name in config.augment.noise:
        if name in known:
            continue
        if name in COLOURS:
            known[name] = ColouredNoise(COLOURS[name], rate)
        elif name == BABBLE:
            known[name] = Babble(_kept((read_cut(cut, rate) for cut in _spread(cuts)), rate, name))
        else:
            known[name] = RecordedNoise(_kept(_recordings(name, config), rate, name))
    return [known[name] for name in config.augment.noise]


def _spread(cuts: CutSet) -> list[Cut]:
    """Choose utterances from all over a corpus, which is ordered by speaker."""
    utterances = list(cuts)
    return utterances[:: -(-len(utterances) // _BABBLE_POOL)]


def _recordings(name: str, config: Config) -> Iterator[np.ndarray]:
    """Yield ``(sample,)`` float32 of each recording of a folder or manifest."""
    rate = config.frontend.sample_rate
    try:
        if Path(name).is_dir():
            found = find_audio(Path(name))
            if found.notice:
                logger.warning("noise %s: %s", name, found.notice)
            for path in found.paths:
                tell = partial(logger.warning, "noise %s: %s", path)
                yield _not_silent(load_audio(path, rate, tell=tell), str(path))
        else:
            for cut in read_manifest(name, config.corpus.manifests):
                yield _not_silent(read_cut(cut, rate), f"utterance {cut.id}")
    except AudioError as error:
        raise AudioError(f"augment.noise: {error}") from None
    except DataError as error:
        kinds = ", ".join([*COLOURS, BABBLE])
        raise DataError(
            f"augment.noise: {error}. Expected {kinds}, or the name of a manifest or of a folder of audio"
        ) from None


def _not_silent(waveform: np.ndarray, where: str) -> np.ndarray:
    if is_silent(waveform):
        raise AudioError(f"{where}: {SILENT}, expected noise; remove it")
    return waveform


def _kept(waveforms: Iterable[np.ndarray], sample_rate: int, name: str) -> list[np.ndarray]:
    """Round ``(sample,)`` float32 waveforms to 16 bits, as many as memory should hold."""
    kept: list[np.ndarray] = []
    hours = 0.0
    for waveform in waveforms:
        kept.append(to_int16(waveform))
        hours += len(waveform) / sample_rate / 3600
        if hours > _MOST_HOURS:
            raise DataError(f"augment.noise: {name} is longer than {_MOST_HOURS:g} h, and is kept in memory; name a part of it")
    logger.info("noise %s: %d recordings, %.2f h", name, len(kept), hours)
    return kept
