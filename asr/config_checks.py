"""Checks of a configuration's values: each by itself, and what does not go together."""

from __future__ import annotations

from typing import Any

from asr.config import MP3_RATES, TELEPHONE_RATE, AugmentConfig, CnnConfig, Config, FrontendConfig, get
from asr.errors import ConfigError
from asr.option import leaves, show

MAX_MAP_SIZE = 1 << 22
"""Numbers that a convolution may make of a second of audio: half a minute in float32 takes half a gigabyte, and a few such at a
time."""


def validate(config: Config) -> None:
    """Check ranges, choices and combinations.

    Raises
    ------
    ConfigError
        Naming the key, its value, and what is permitted.
    """
    check_ranges(config)
    _check_cnn(config.model.cnn)
    _check_frontend(config.frontend)
    _check_maps(config.model.cnn, config.frontend)
    _check_augment(config.augment, config.frontend.sample_rate)
    _check_rest(config)


def check_ranges(config: Any) -> None:
    """Check every value of a schema's object by itself, as :func:`validate` does."""
    for key, entry in leaves(type(config)).items():
        entry.check(get(config, key))


def _check_cnn(cnn: CnnConfig) -> None:
    names = ("channels", "time_kernels", "frequency_kernels", "time_strides", "frequency_strides")
    lists = {name: getattr(cnn, name) for name in names}
    if len({len(values) for values in lists.values()}) > 1:
        lengths = ", ".join(f"{name} {len(values)}" for name, values in lists.items())
        raise ConfigError(f"model.cnn: every list needs one entry a layer, but their lengths differ: {lengths}")
    for name in ("time_kernels", "frequency_kernels"):
        if any(size % 2 == 0 for size in lists[name]):
            raise ConfigError(f"model.cnn.{name}={show(lists[name])}: kernel sizes must be odd, so that a kernel has a centre")


def _check_maps(cnn: CnnConfig, frontend: FrontendConfig) -> None:
    """Bound the memory of the feature maps, which weights do not show: a small file could ask for all that there is."""
    window = round(frontend.window_s * frontend.sample_rate)
    bins = {"spectrogram": window // 2 + 1, "mfcc": frontend.n_mfcc}.get(frontend.kind, frontend.n_mels)
    frames_by_s = 1 / frontend.hop_s
    for layer, channels in enumerate(cnn.channels):
        frames_by_s, bins = frames_by_s / cnn.time_strides[layer], -(-bins // cnn.frequency_strides[layer])
        if (size := channels * frames_by_s * bins) > MAX_MAP_SIZE:
            raise ConfigError(
                f"model.cnn: layer {layer + 1} makes {size:,.0f} numbers of a second of audio ({channels} channels, {bins} "
                f"bands, {frames_by_s:g} frames a second); expected {MAX_MAP_SIZE:,} at most. Choose fewer channels, larger "
                "strides or a longer frontend.hop_s"
            )


def _check_frontend(frontend: FrontendConfig) -> None:
    nyquist = frontend.sample_rate / 2
    f_max = nyquist if frontend.f_max_hz is None else frontend.f_max_hz
    if f_max > nyquist:
        raise ConfigError(
            f"frontend.f_max_hz={f_max:g}: above {nyquist:g} Hz, half of frontend.sample_rate={frontend.sample_rate}"
        )
    if frontend.f_min_hz >= f_max:
        raise ConfigError(f"frontend.f_min_hz={frontend.f_min_hz:g}: must lie below the highest frequency, {f_max:g} Hz")
    if frontend.hop_s > frontend.window_s:
        raise ConfigError(
            f"frontend.hop_s={frontend.hop_s:g}: longer than frontend.window_s={frontend.window_s:g}, so audio is lost"
        )
    if frontend.kind == "mfcc" and frontend.n_mfcc > frontend.n_mels:
        raise ConfigError(f"frontend.n_mfcc={frontend.n_mfcc}: more coefficients than frontend.n_mels={frontend.n_mels} bands")


def _check_augment(augment: AugmentConfig, sample_rate: int) -> None:
    for name in ("noise_snr_db", "room_rt60_s", "room_distance_m", "volume_db"):
        values = getattr(augment, name)
        if len(values) != 2 or values[0] > values[1]:
            raise ConfigError(f"augment.{name}={show(values)}: expected two numbers, the lowest and the highest")
    if augment.mp3_kbps and sample_rate not in MP3_RATES:
        raise ConfigError(
            f"augment.mp3_kbps={show(augment.mp3_kbps)}: MP3 needs frontend.sample_rate to be one of "
            f"{', '.join(map(str, MP3_RATES))}, not {sample_rate}"
        )
    if augment.telephone_fraction and sample_rate < TELEPHONE_RATE:
        raise ConfigError(
            f"augment.telephone_fraction={augment.telephone_fraction:g}: a telephone needs frontend.sample_rate to be at least "
            f"{TELEPHONE_RATE}, not {sample_rate}"
        )


def _check_rest(config: Config) -> None:
    if len(config.optim.betas) != 2:
        raise ConfigError(f"optim.betas={show(config.optim.betas)}: expected two numbers")
    alphabet = config.tokens.alphabet
    repeated = sorted({character for character in alphabet if alphabet.count(character) > 1})
    if not alphabet or repeated:
        found = f"holds {repeated[0]!r} twice" if repeated else "is empty"
        raise ConfigError(f"tokens.alphabet {found}: expected each character of the transcripts once")
    if config.tokens.kind == "phones" and " " not in alphabet:
        raise ConfigError("tokens.kind=phones needs the space in tokens.alphabet: it looks up words")
    if not config.name.strip():
        raise ConfigError("name is empty: expected the name of the run")
    if not config.output.strip():
        raise ConfigError("output is empty: expected a folder for checkpoints, logs and the model package")
