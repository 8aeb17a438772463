"""The effects that training audio goes through: each does what it says, by figures, and moves no word."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from lhotse import CutSet
from scipy.signal import fftconvolve

from asr.cli import main
from asr.compose import compose
from asr.config import AugmentConfig, Config
from asr.data.batches import training_loader
from asr.data.chain import Chain, build_chain
from asr.data.manifest import read_manifest
from asr.data.noise import Babble, ColouredNoise, RecordedNoise, add_noise, read_noises
from asr.data.perturb import TELEPHONES, change_volume, convolve, through_telephone
from asr.data.reading import to_int16
from asr.data.rooms import reverberate, room_response
from asr.data.table import prepare_table
from asr.errors import AudioError, DataError

RATE = 16000
EFFECTS = {
    "room": AugmentConfig(speed=[], room_fraction=1.0),
    "noise": AugmentConfig(speed=[], noise=["pink"], noise_fraction=1.0),
    "volume": AugmentConfig(speed=[], volume_fraction=1.0),
    "telephone": AugmentConfig(speed=[], telephone_fraction=1.0),
    "mp3": AugmentConfig(speed=[], mp3_kbps=[24], mp3_fraction=1.0),
}


def bursts(rng: np.random.Generator, duration_s: float = 2.0, rate: int = RATE) -> np.ndarray:
    """Stand-in for speech: words of noise between 400 and 3000 Hz, with silence between them."""
    n_samples = round(duration_s * rate)
    spectrum = np.fft.rfft(rng.standard_normal(n_samples))
    frequencies = np.fft.rfftfreq(n_samples, 1 / rate)
    spectrum[(frequencies < 400) | (frequencies > 3000)] = 0
    time_s = np.arange(n_samples) / rate
    waveform = np.fft.irfft(spectrum, n_samples) * (np.sin(2 * np.pi * 2.3 * time_s) > 0.2)
    return (0.3 * waveform / np.abs(waveform).max()).astype(np.float32)


def power(waveform: np.ndarray) -> float:
    return float(np.mean(waveform.astype(np.float64) ** 2))


def level_db(waveform: np.ndarray, low_hz: float, high_hz: float, rate: int = RATE) -> float:
    """Power in a band of frequencies (dB)."""
    spectrum = np.abs(np.fft.rfft(waveform.astype(np.float64))) ** 2
    frequencies = np.fft.rfftfreq(len(waveform), 1 / rate)
    return float(10 * np.log10(spectrum[(frequencies >= low_hz) & (frequencies < high_hz)].sum()))


def noises(config: AugmentConfig) -> list[ColouredNoise]:
    return [ColouredNoise(1.0, RATE) for _ in config.noise]


@pytest.fixture
def cuts(write_corpus: Callable[..., Path], tmp_path: Path) -> CutSet:
    list(prepare_table(write_corpus([0.5 + 0.1 * index for index in range(12)]), "speech", tmp_path / "manifests"))
    return read_manifest(["speech/all"], tmp_path / "manifests")


@pytest.fixture
def noise_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "noises"
    (folder / "rain").mkdir(parents=True)
    rng = np.random.default_rng(5)
    for index, place in enumerate(("a.wav", "rain/b.aiff", "rain/c.OGG")):
        soundfile.write(folder / place, 0.05 * (index + 1) * rng.standard_normal(8000), RATE)
    (folder / "licence.txt").write_text("CC0")
    return folder


def configured(*overrides: str) -> Config:
    return compose(list(overrides))


# Rooms


def decay_time_s(response: np.ndarray) -> float:
    """RT60 by Schroeder's backward integration of the energy, from its fall between -5 and -25 dB behind the direct sound."""
    energy = np.cumsum(response[:0:-1].astype(np.float64) ** 2)[::-1]
    fall_db = 10 * np.log10(energy[energy > 0] / energy[0])
    time_s = np.arange(len(fall_db)) / RATE
    used = (fall_db < -5) & (fall_db > -25)
    return float(-60 / np.polyfit(time_s[used], fall_db[used], 1)[0])


@pytest.mark.parametrize("rt60_s", [0.2, 0.4, 0.7])
@pytest.mark.parametrize("distance_m", [0.3, 3.0])
def test_echo_falls_by_60_db_in_the_time_that_is_asked_for(rt60_s: float, distance_m: float) -> None:
    rng = np.random.default_rng(0)
    measured = [decay_time_s(room_response(rng, RATE, rt60_s, distance_m)) for _ in range(20)]
    assert np.mean(measured) == pytest.approx(rt60_s, rel=0.1)
    assert np.mean(np.abs(np.array(measured) / rt60_s - 1) < 0.2) > 0.9


@pytest.mark.parametrize(("rt60_s", "distance_m"), [(0.3, 0.5), (0.6, 1.0), (0.6, 3.0)])
def test_share_of_echo_is_that_of_the_critical_distance(
    rt60_s: float, distance_m: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Direct and reverberant energy are equal at 0.057 sqrt(V / RT60) metres (Kuttruff, Room Acoustics, section 5.6)."""
    volume = 80.0
    monkeypatch.setattr("asr.data.rooms._VOLUMES_M3", (volume, volume))
    rng = np.random.default_rng(1)
    energy = [float((room_response(rng, RATE, rt60_s, distance_m)[1:] ** 2).sum()) for _ in range(100)]
    critical_m = 0.057 * np.sqrt(volume / rt60_s)
    started = 10 ** (-6 * distance_m / 343 / rt60_s)  # the room's echo has faded while the direct sound was on its way
    assert np.mean(energy) == pytest.approx((distance_m / critical_m) ** 2 * started, rel=0.15)


def test_first_echoes_stand_alone_and_later_ones_run_together() -> None:
    response = room_response(np.random.default_rng(2), RATE, 0.5, 1.0)
    assert response[0] == 1.0
    assert np.mean(response[1:80] != 0) < 0.2 < 0.5 < np.mean(response[2000:4000] != 0)


def test_convolution_is_that_of_scipy() -> None:
    rng = np.random.default_rng(3)
    for n_samples, n_taps, delay in ((40000, 9000, 0), (100, 5, 2), (70001, 1, 0), (1, 300, 150), (33000, 40000, 11)):
        waveform, kernel = (rng.standard_normal(n).astype(np.float32) for n in (n_samples, n_taps))
        expected = fftconvolve(waveform.astype(np.float64), kernel.astype(np.float64))[delay : delay + n_samples]
        expected = np.pad(expected, (0, n_samples - len(expected)))
        np.testing.assert_allclose(convolve(waveform, kernel, delay), expected, atol=2e-6 * np.abs(expected).max() + 1e-5)


def test_a_room_keeps_the_loudness() -> None:
    waveform = bursts(np.random.default_rng(4))
    heard = reverberate(waveform, room_response(np.random.default_rng(4), RATE, 0.6, 2.0))
    assert power(heard) == pytest.approx(power(waveform), rel=1e-4)
    silence = np.zeros(100, dtype=np.float32)
    assert not reverberate(silence, np.ones(3, dtype=np.float32)).any()


# Noise


@pytest.mark.parametrize("snr_db", [-5.0, 0.0, 12.5])
def test_noise_has_the_power_that_is_asked_for(snr_db: float) -> None:
    rng = np.random.default_rng(6)
    speech, noise = bursts(rng), 7 * rng.standard_normal(2 * RATE).astype(np.float32)
    added = add_noise(speech, noise, snr_db) - speech
    assert 10 * np.log10(power(speech) / power(added)) == pytest.approx(snr_db, abs=0.01)
    np.testing.assert_allclose(np.corrcoef(added, noise)[0, 1], 1.0, atol=1e-5)


def test_silence_has_no_signal_to_noise_ratio() -> None:
    speech, silence = bursts(np.random.default_rng(7)), np.zeros(2 * RATE, dtype=np.float32)
    np.testing.assert_array_equal(add_noise(speech, silence, 10.0), speech)
    np.testing.assert_array_equal(add_noise(silence, speech, 10.0), silence)


@pytest.mark.parametrize(("slope", "db_an_octave"), [(0.0, 3.0103), (1.0, 0.0), (2.0, -3.0103)])
def test_power_of_an_octave_follows_the_colour(slope: float, db_an_octave: float) -> None:
    """An octave is twice as wide as the one below, so white noise gains 3 dB in each, and pink noise none."""
    noise = ColouredNoise(slope, RATE).draw(np.random.default_rng(8), 40 * RATE)
    assert noise.shape == (40 * RATE,)
    levels = [level_db(noise, low_hz, 2 * low_hz) for low_hz in (100, 200, 400, 800, 1600, 3200)]
    np.testing.assert_allclose(np.diff(levels), db_an_octave, atol=0.4)
    assert level_db(noise, 0, 15) < level_db(noise, 20, 35) - 20


def test_recordings_are_cut_and_repeated() -> None:
    recording = np.arange(1, 11, dtype=np.int16)
    noise = RecordedNoise([recording])
    for seed in range(20):
        drawn = np.rint(noise.draw(np.random.default_rng(seed), 25) * 32768).astype(int)
        np.testing.assert_array_equal(drawn, (drawn[0] - 1 + np.arange(25)) % 10 + 1)
    starts = {float(noise.draw(np.random.default_rng(seed), 3)[0]) for seed in range(60)}
    assert len(starts) == 10


def test_babble_is_of_several_voices_as_loud_as_each_other() -> None:
    time_s = np.arange(RATE) / RATE
    amplitudes = np.geomspace(0.02, 0.9, 20)
    tones = [to_int16(a * np.sin(2 * np.pi * 100 * (i + 1) * time_s)) for i, a in enumerate(amplitudes)]
    heard = {}
    for seed in range(60):
        spectrum = np.abs(np.fft.rfft(Babble(tones).draw(np.random.default_rng(seed), RATE)))[100:2100:100]
        voices = spectrum[spectrum > 0.1 * spectrum.max()]
        heard[len(voices)] = voices
    assert max(heard) == 7
    assert set(heard) >= {3, 4, 5, 6}
    np.testing.assert_allclose(heard[7], RATE / np.sqrt(2), rtol=0.02)  # none drawn twice: each has a power of 1


def test_noise_of_a_folder_a_manifest_and_by_name(
    cuts: CutSet, noise_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = [path for path in sorted(noise_folder.rglob("*.*")) if path.suffix != ".txt"]
    rows = [{"id": path.stem, "audio": str(path), "text": None, "kind": "rain"} for path in files]
    table = tmp_path / "noise.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ["prepare", "table", str(table), "--name", "rain", "--manifests", str(tmp_path / "manifests")]
    assert main([*command, "--text-column", "kind"]) == 0
    overrides = f"augment.noise=[white,{noise_folder},babble,rain/all,white]"
    read = read_noises(configured(overrides, f"corpus.manifests={tmp_path / 'manifests'}"), cuts)
    assert f"noise {noise_folder}: passed over what does not end as audio does or is hidden, 1 in all: 1 .txt" in caplog.text
    white, folder, babble, manifest, again = read
    assert isinstance(white, ColouredNoise)
    assert white is again
    assert isinstance(babble, Babble)
    assert len(babble.recordings) == len(cuts)
    assert isinstance(folder, RecordedNoise)
    assert isinstance(manifest, RecordedNoise)
    for kept in (folder.recordings, manifest.recordings):
        assert [len(recording) for recording in kept] == [8000, 8000, 8000]
        assert [power(recording / 32768) ** 0.5 for recording in kept] == pytest.approx([0.05, 0.1, 0.15], rel=0.1)


def test_babble_comes_from_all_over_a_large_corpus(cuts: CutSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asr.data.noise._BABBLE_POOL", 5)
    (babble,) = read_noises(configured("augment.noise=[babble]"), cuts)
    assert isinstance(babble, Babble)
    assert [len(voice) for voice in babble.recordings] == [round((0.5 + 0.1 * index) * RATE) for index in (0, 3, 6, 9)]


# Volume and telephone


def test_volume_clips_what_is_loud_and_rounds_what_is_quiet() -> None:
    waveform = bursts(np.random.default_rng(9))
    quiet = change_volume(waveform, -30)
    assert power(quiet) == pytest.approx(power(waveform) / 1000, rel=0.01)
    np.testing.assert_array_equal(quiet * 32768, np.rint(quiet * 32768))
    loud = change_volume(waveform, 20)
    assert loud.max() == pytest.approx(1.0, abs=1e-4)
    assert loud.min() == -1.0
    untouched = np.abs(waveform) < 0.099
    np.testing.assert_allclose(loud[untouched], 10 * waveform[untouched], atol=2e-5)


@pytest.mark.parametrize("codec", TELEPHONES)
@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050])
def test_a_telephone_leaves_its_band(codec: str, rate: int) -> None:
    noise = 0.1 * np.random.default_rng(10).standard_normal(4 * rate).astype(np.float32)
    heard = through_telephone(noise, rate, codec)
    assert heard.shape == noise.shape
    assert heard.dtype == np.float32
    change = [level_db(heard, *band, rate) - level_db(noise, *band, rate) for band in ((400, 3200), (20, 150), (3800, 4000))]
    assert change[0] == pytest.approx(0, abs=2.0)
    assert change[1] < -12
    assert change[2] < -10
    if rate > 8000:
        assert level_db(heard, 4100, rate / 2, rate) < level_db(noise, 4100, rate / 2, rate) - 25


def test_g711_is_as_exact_as_its_standard_says() -> None:
    """Seven bits and a sign on a logarithmic scale give 36 to 39 dB of signal over noise (ITU-T G.712, figure 7)."""
    time_s = np.arange(2 * RATE) / RATE
    tone = (0.3 * np.sin(2 * np.pi * 1004 * time_s)).astype(np.float32)
    for codec in ("ULAW", "ALAW"):
        noise = through_telephone(tone, RATE, codec)[2000:-2000] - tone[2000:-2000]
        assert 34 < 10 * np.log10(power(tone) / power(noise)) < 45


@pytest.mark.parametrize("n_samples", [1, 2, 300])
@pytest.mark.parametrize("effect", EFFECTS)
def test_almost_nothing(effect: str, n_samples: int) -> None:
    config = EFFECTS[effect]
    waveform = np.full(n_samples, 0.1, dtype=np.float32)
    changed = Chain(config, RATE, 0, noises(config))(waveform, "a", 0)
    assert changed.shape == waveform.shape
    assert np.isfinite(changed).all()


# The chain


@pytest.mark.parametrize("effect", EFFECTS)
def test_no_effect_moves_the_words(effect: str) -> None:
    config = EFFECTS[effect]
    waveform = bursts(np.random.default_rng(11))
    for epoch in range(8):
        changed = Chain(config, RATE, 3, noises(config))(waveform, "a", epoch)
        assert changed.shape == waveform.shape
        assert changed.dtype == np.float32
        assert not np.array_equal(changed, waveform)
        correlation = np.correlate(changed, waveform[200:-200], mode="valid")
        assert abs(int(correlation.argmax()) - 200) <= 1


@pytest.mark.parametrize("effect", EFFECTS)
def test_each_effect_takes_its_share_and_is_drawn_anew(effect: str) -> None:
    config = EFFECTS[effect]
    share: dict[str, Any] = {f"{effect}_fraction": 0.3}
    config = dataclasses.replace(config, **share)
    chain = Chain(config, RATE, 1, noises(config))
    waveform = bursts(np.random.default_rng(12), 0.05)
    changed = [chain(waveform, f"utterance-{index}", 0).tobytes() for index in range(600)]
    n_spared = changed.count(waveform.tobytes())
    assert n_spared == pytest.approx(420, abs=45)  # four standard deviations
    again = Chain(config, RATE, 1, noises(config))
    assert [again(waveform, f"utterance-{index}", 0).tobytes() for index in range(50)] == changed[:50]
    assert [again(waveform, f"utterance-{index}", 1).tobytes() for index in range(50)] != changed[:50]
    another = Chain(config, RATE, 2, noises(config))
    assert [another(waveform, f"utterance-{index}", 0).tobytes() for index in range(50)] != changed[:50]
    n_settings = {"telephone": len(TELEPHONES), "mp3": 1}.get(effect, 600 - n_spared)
    assert len(set(changed)) == n_settings + 1


def test_effects_come_in_the_order_that_speech_meets_them(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []

    def recording(name: str) -> Callable[..., np.ndarray]:
        def effect(waveform: np.ndarray, *_: object) -> np.ndarray:
            called.append(name)
            return waveform

        return effect

    order = ["change_speed", "reverberate", "add_noise", "change_volume", "through_telephone", "through_mp3"]
    for name in order:
        monkeypatch.setattr(f"asr.data.chain.{name}", recording(name))
    config = AugmentConfig(
        room_fraction=1.0,
        noise=["pink"],
        noise_fraction=1.0,
        volume_fraction=1.0,
        telephone_fraction=1.0,
        mp3_kbps=[16],
        mp3_fraction=1.0,
    )
    Chain(config, RATE, 0, noises(config))(np.ones(1600, dtype=np.float32), "a", 0)
    assert called == order


def test_ranges_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, list[float]] = {"snr": [], "rt60": [], "distance": [], "gain": []}

    def noise(waveform: np.ndarray, _: np.ndarray, snr_db: float) -> np.ndarray:
        seen["snr"].append(snr_db)
        return waveform

    def room(rng: np.random.Generator, rate: int, rt60_s: float, distance_m: float) -> np.ndarray:
        seen["rt60"].append(rt60_s)
        seen["distance"].append(distance_m)
        return np.ones(1, dtype=np.float32)

    def volume(waveform: np.ndarray, gain_db: float) -> np.ndarray:
        seen["gain"].append(gain_db)
        return waveform

    monkeypatch.setattr("asr.data.chain.add_noise", noise)
    monkeypatch.setattr("asr.data.chain.room_response", room)
    monkeypatch.setattr("asr.data.chain.change_volume", volume)
    config = AugmentConfig(noise=["pink"], noise_fraction=1.0, room_fraction=1.0, volume_fraction=1.0)
    chain = Chain(config, RATE, 0, noises(config))
    for index in range(300):
        chain(np.ones(16, dtype=np.float32), str(index), 0)
    for name, (low, high) in {"snr": (5, 25), "rt60": (0.2, 0.7), "distance": (0.3, 3.0), "gain": (-30, 15)}.items():
        margin = 0.05 * (high - low)
        assert low <= min(seen[name]) < low + margin
        assert high - margin < max(seen[name]) <= high


def test_training_batches_are_those_of_the_chain_and_repeat(cuts: CutSet, noise_folder: Path) -> None:
    config = configured("augment=robust", f"augment.noise=[white,babble,{noise_folder}]", "trainer.cache_gib=0.1")
    loaders = [training_loader(cuts, config) for _ in range(2)]
    batches = [list(loader.epoch(4)) for loader in loaders]
    chain = build_chain(config, cuts)
    for first, second in zip(*batches, strict=True):
        assert torch.equal(first.waveforms, second.waveforms)
        for row, utterance in enumerate(first.ids):
            recorded = soundfile.read(cuts[utterance].recording.sources[0].source, dtype="float32")[0]
            expected = chain(recorded, utterance, 4)
            np.testing.assert_allclose(first.waveforms[row, : len(expected)].numpy(), expected, atol=1e-5)


# What cannot be used


def wrong_value(path: Path) -> None:
    soundfile.write(path, np.full(100, np.nan, dtype=np.float32), RATE, subtype="FLOAT")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("augment.noise_snr_db=[20,5]", ["augment.noise_snr_db=[20.0,5.0]", "the lowest and the highest"]),
        ("augment.noise_snr_db=[10]", ["augment.noise_snr_db", "expected two numbers"]),
        ("augment.noise_snr_db=[nan,5]", ["augment.noise_snr_db", "-20 to 100 dB"]),
        ("augment.noise_fraction=1.5", ["augment.noise_fraction=1.5", "0 to 1"]),
        ("augment.room_rt60_s=[0,1]", ["augment.room_rt60_s", "0.05 to 5 s"]),
        ("augment.room_distance_m=[3,1]", ["augment.room_distance_m", "the lowest and the highest"]),
        ("augment.volume_db=[-90,0]", ["augment.volume_db", "-60 to 60 dB"]),
        ("augment.noise=pink", ["augment.noise", "a list of texts"]),
        ("augment.noises=[pink]", ["augment.noises", "Did you mean augment.noise?"]),
        ("augment=robust frontend.sample_rate=6000 augment.mp3_kbps=[]", ["telephone_fraction", "8000", "6000"]),
    ],
)
def test_wrong_settings_are_refused(override: str, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *override.split(), "--print-config"]) == 2
    message = capsys.readouterr().err
    assert all(word in message for word in words), message
    assert "Traceback" not in message


@pytest.mark.parametrize(
    ("name", "write", "words"),
    [
        ("nowhere", lambda path: None, ["manifest", "not found", "white, pink, brown, babble"]),
        ("empty", lambda path: path.mkdir(), ["no audio file is below this folder; expected names that end in .flac, .wav"]),
        ("zero/a.wav", lambda path: path.write_bytes(b""), ["a.wav: is empty (0 bytes)"]),
        ("nan/a.wav", wrong_value, ["a.wav: 100 of 100 samples are NaN or infinite"]),
        ("text/a.wav", lambda path: path.write_text("no audio at all"), ["a.wav"]),
        ("silent/a.wav", lambda path: soundfile.write(path, np.zeros(99), RATE), ["a.wav: holds nothing but digital silence"]),
        ("broken.jsonl", lambda path: path.write_text("{}\n"), ["broken.jsonl, line 1: is not a lhotse cut"]),
    ],
)
def test_noise_that_cannot_be_used_is_named_before_training(
    name: str,
    write: Callable[[Path], object],
    words: list[str],
    cuts: CutSet,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    write(path)
    noise = path.parent if "/" in name else path
    command = ["train", f"augment.noise=[{noise}]", f"corpus.manifests={tmp_path / 'manifests'}", "corpus.train=[speech/all]"]
    command += [
        f"output={tmp_path / 'run'}",
        "tokens.alphabet=' abcdefghijklmnopqrstuvwxyz0123456789'",
        "trainer.accelerator=cpu",
    ]
    assert main(command) == 2
    message = capsys.readouterr().err
    assert "augment.noise: " in message
    assert all(word in message for word in words), message
    assert not (tmp_path / "run" / "last.ckpt").exists()


def test_more_noise_than_memory_should_hold_is_refused(
    cuts: CutSet, noise_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asr.data.noise._MOST_HOURS", 1.2 / 3600)
    with pytest.raises(DataError, match=r"augment\.noise: .*noises is longer than .* h, and is kept in memory"):
        read_noises(configured(f"augment.noise=[{noise_folder}]"), cuts)


def test_a_voice_of_the_babble_that_cannot_be_read_is_named(cuts: CutSet) -> None:
    Path(cuts["corpus-004"].recording.sources[0].source).write_bytes(b"")
    with pytest.raises(AudioError, match=r"utterance corpus-004: .*u4\.wav: is empty"):
        read_noises(configured("augment.noise=[babble]"), cuts)
