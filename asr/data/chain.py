"""The chain of effects that a training utterance goes through."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from asr.config import AugmentConfig, Config
from asr.data.noise import Noise, add_noise, read_noises
from asr.data.perturb import TELEPHONES, change_speed, change_volume, through_mp3, through_telephone
from asr.data.rooms import reverberate, room_response

if TYPE_CHECKING:
    from lhotse import CutSet


class Chain:
    """Speed, room, noise, volume, telephone, MP3: the order in which speech meets them.

    Each effect takes its share of the utterances; those of one utterance are drawn anew in each epoch, each by itself. But
    for speed, they leave an utterance as long as it was, and every word in its place.

    Parameters
    ----------
    config
        Shares and ranges.
    sample_rate
        Rate of the waveforms (Hz).
    seed
        Decides everything, together with the epoch and the utterance's id.
    noises
        As from :func:`asr.data.noise.read_noises`, one for each of ``config.noise``.
    """

    def __init__(self, config: AugmentConfig, sample_rate: int, seed: int = 0, noises: Sequence[Noise] = ()) -> None:
        self.config = config
        self.sample_rate = sample_rate
        self.seed = seed
        self.noises = noises

    def __call__(self, waveform: np.ndarray, utterance_id: str, epoch: int) -> np.ndarray:
        """Return ``(sample,)`` float32 of an utterance as an epoch has it.

        Parameters
        ----------
        waveform
            ``(sample,)`` float32, as it was recorded.
        utterance_id, epoch
            Its id, and the epoch's number from 0.
        """
        config = self.config
        of = (utterance_id, epoch)
        waveform = change_speed(waveform, self.speed(*of))
        if rng := self._rng("room", config.room_fraction, *of):
            rt60_s, distance_m = _within(config.room_rt60_s, rng), _within(config.room_distance_m, rng)
            waveform = reverberate(waveform, room_response(rng, self.sample_rate, rt60_s, distance_m))
        if self.noises and (rng := self._rng("noise", config.noise_fraction, *of)):
            snr_db, noise = _within(config.noise_snr_db, rng), self.noises[int(rng.integers(len(self.noises)))]
            waveform = add_noise(waveform, noise.draw(rng, len(waveform)), snr_db)
        if rng := self._rng("volume", config.volume_fraction, *of):
            waveform = change_volume(waveform, _within(config.volume_db, rng))
        if rng := self._rng("telephone", config.telephone_fraction, *of):
            waveform = through_telephone(waveform, self.sample_rate, str(rng.choice(TELEPHONES)))
        kbps = self.bit_rate(*of)
        return waveform if kbps is None else through_mp3(waveform, self.sample_rate, kbps)

    def speed(self, utterance_id: str, epoch: int) -> float:
        """Return the factor that an utterance is given in an epoch."""
        speeds = self.config.speed
        return speeds[self._draw("", utterance_id, epoch) % len(speeds)] if speeds else 1.0

    def bit_rate(self, utterance_id: str, epoch: int) -> int | None:
        """Return the bit rate of MP3 (kbit/s) that an utterance goes through in an epoch, if any."""
        rates = self.config.mp3_kbps
        if not rates or self._draw("mp3 ", utterance_id, epoch) / 2**64 >= self.config.mp3_fraction:
            return None
        return rates[self._draw("kbps ", utterance_id, epoch) % len(rates)]

    def _rng(self, effect: str, fraction: float, utterance_id: str, epoch: int) -> np.random.Generator | None:
        """Return the random numbers of an effect, or nothing where an utterance is spared."""
        if self._draw(f"{effect} ", utterance_id, epoch) / 2**64 >= fraction:
            return None
        return np.random.default_rng(self._draw(f"{effect} settings ", utterance_id, epoch))

    def _draw(self, purpose: str, utterance_id: str, epoch: int) -> int:
        """Return a random number of 64 bits that the seed, the epoch and the utterance decide."""
        text = f"{purpose}{self.seed} {epoch} {utterance_id}"
        return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def _within(bounds: Sequence[float], rng: np.random.Generator) -> float:
    low, high = bounds
    return rng.uniform(low, high)


def build_chain(config: Config, cuts: CutSet) -> Chain:
    """Make the chain that a configuration describes, its noise read.

    Parameters
    ----------
    config
        The whole configuration.
    cuts
        The training utterances.

    Raises
    ------
    DataError, AudioError
        For noise that cannot be used.
    """
    return Chain(config.augment, config.frontend.sample_rate, config.seed, read_noises(config, cuts))
