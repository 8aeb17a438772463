"""Batches: what is in them, in which order, and that evaluation is never augmented."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from lhotse import CutSet

from asr.audio import load_audio
from asr.config import MP3_RATES, AugmentConfig, Config
from asr.data.augment import SpecAugment
from asr.data.batch import Batch
from asr.data.batches import SpeechDataset, Work, evaluation_loader, longest_batch, training_loader
from asr.data.chain import Chain
from asr.data.manifest import read_manifest
from asr.data.order import TrainingOrder
from asr.data.perturb import change_speed, through_mp3
from asr.data.reading import AudioMemory, read_cut
from asr.data.table import prepare_table
from asr.errors import AudioError, ConfigError, DataError

DURATIONS_S = [0.3 + 0.05 * index for index in range(30)]


@pytest.fixture
def cuts(write_corpus: Callable[..., Path], tmp_path: Path) -> CutSet:
    list(prepare_table(write_corpus(DURATIONS_S), "noise", tmp_path / "manifests"))
    return read_manifest(["noise/all"], tmp_path / "manifests")


@pytest.fixture
def config() -> Config:
    config = Config(seed=7)
    config.trainer.batch_s = 6.0
    config.trainer.buckets = 3
    return config


def contents(batches: Iterable[Batch]) -> list[tuple[tuple[str, ...], bytes]]:
    return [(batch.ids, batch.waveforms.numpy().tobytes()) for batch in batches]


def test_batch_holds_each_utterance_at_its_place(cuts: CutSet, config: Config) -> None:
    for batch in evaluation_loader(cuts, config):
        for row, (utterance, n_samples) in enumerate(zip(batch.ids, batch.n_samples.tolist(), strict=True)):
            expected = load_audio(cuts[utterance].recording.sources[0].source, 16000)
            assert n_samples == len(expected)
            np.testing.assert_array_equal(batch.waveforms[row, :n_samples], expected)
            assert not batch.waveforms[row, n_samples:].any()
            assert batch.texts[row] == f"text {int(utterance[-3:])}"


@pytest.mark.parametrize("world_size", [1, 3])
def test_evaluation_reads_every_utterance_exactly_once(cuts: CutSet, config: Config, world_size: int) -> None:
    loaders = [evaluation_loader(cuts, config, world_size=world_size, rank=rank) for rank in range(world_size)]
    batches = [batch for loader in loaders for batch in loader]
    assert sorted(utterance for batch in batches for utterance in batch.ids) == sorted(cuts.ids)
    assert sum(len(loader) for loader in loaders) == len(batches) > 3
    assert all(batch.waveforms.numel() <= config.trainer.batch_s * 16000 for batch in batches)


def test_each_process_has_a_batch_of_a_small_part(cuts: CutSet, config: Config) -> None:
    config.trainer.batch_s = 1000.0
    loaders = [evaluation_loader(cuts.subset(first=5), config, world_size=4, rank=rank) for rank in range(4)]
    assert all(len(loader) >= 1 for loader in loaders)
    assert sum(len(batch) for loader in loaders for batch in loader) == 5


def test_evaluation_is_never_augmented(cuts: CutSet, config: Config) -> None:
    config.augment = AugmentConfig(
        speed=[0.5, 2.0],
        room_fraction=1.0,
        noise=["white"],
        noise_fraction=1.0,
        volume_fraction=1.0,
        telephone_fraction=1.0,
        mp3_kbps=[16],
        mp3_fraction=1.0,
    )
    loader = evaluation_loader(cuts, config)
    assert contents(loader) == contents(evaluation_loader(cuts, Config(trainer=config.trainer))) == contents(loader)
    lengths = {utterance: n for batch in loader for utterance, n in zip(batch.ids, batch.n_samples.tolist(), strict=True)}
    assert lengths == {cut.id: cut.num_samples for cut in cuts}
    training = {u: n for b in training_loader(cuts, config).epoch(0) for u, n in zip(b.ids, b.n_samples.tolist(), strict=True)}
    assert all(training[utterance] != lengths[utterance] for utterance in lengths)


def test_memory_shared_with_training_leaves_evaluation_as_it_is(cuts: CutSet, config: Config) -> None:
    memory = AudioMemory(16000, 0.01, cuts)
    plain = contents(evaluation_loader(cuts, config))
    assert contents(training_loader(cuts, config, memory=memory).epoch(0))
    assert contents(evaluation_loader(cuts, config, memory=memory)) == plain


@pytest.mark.parametrize("batch_s", [0.1, 3.0])
def test_long_utterance_is_a_batch_by_itself(cuts: CutSet, config: Config, batch_s: float) -> None:
    config.trainer.batch_s = batch_s
    assert sum(len(batch) for batch in evaluation_loader(cuts, config)) == len(DURATIONS_S)


def test_training_batches_respect_limits_and_lose_nothing(cuts: CutSet, config: Config) -> None:
    config.augment.speed = []
    config.trainer.max_utterances = 5
    batches = list(training_loader(cuts, config).epoch(0))
    assert sorted(utterance for batch in batches for utterance in batch.ids) == sorted(cuts.ids)
    assert max(len(batch) for batch in batches) == 5
    assert all(batch.waveforms.numel() <= config.trainer.batch_s * 16000 for batch in batches)


def test_training_repeats_exactly_and_epochs_differ(cuts: CutSet, config: Config) -> None:
    first, second = training_loader(cuts, config), training_loader(cuts, config)
    for epoch in (0, 1, 0):
        assert contents(first.epoch(epoch)) == contents(second.epoch(epoch))
    orders = [[ids for ids, _ in contents(first.epoch(epoch))] for epoch in (0, 1)]
    assert orders[0] != orders[1]
    config.seed = 8
    assert contents(training_loader(cuts, config).epoch(0)) != contents(first.epoch(0))


def test_worker_processes_change_nothing(cuts: CutSet, config: Config) -> None:
    """Neither do threads, nor whether memory keeps all, some or none: over two epochs of one stream, to the last bit."""
    config.augment = AugmentConfig(speed=[0.9, 1.1], room_fraction=0.5, telephone_fraction=0.5)
    config.trainer.cache_gib = 0.1
    expected = [contents(training_loader(cuts, config).epoch(epoch)) for epoch in (3, 4)]
    n_threads = torch.get_num_threads()
    for n_workers, cache_gib in ((0, 0.0), (2, 0.1), (2, 0.0005)):
        config.trainer.cache_gib = cache_gib
        loader = training_loader(cuts, config, n_workers=n_workers)
        torch.set_num_threads(3)
        try:
            assert [contents(loader.epoch(epoch)) for epoch in (3, 4)] == expected
            assert torch.get_num_threads() == 3
        finally:
            torch.set_num_threads(n_threads)
            loader.close()


def test_an_epoch_can_be_entered_anywhere_and_passes_use_nothing_up(cuts: CutSet, config: Config) -> None:
    config.augment.speed = []
    whole = training_loader(cuts, config)
    expected = {epoch: contents(whole.epoch(epoch)) for epoch in (1, 2)}
    loader = training_loader(cuts, config, n_workers=1)
    next(loader.epoch(0))  # begun and given up
    begun = loader.epoch(1, 2)
    assert contents(loader.epoch(1, 2)) == expected[1][2:]
    assert contents(begun) == expected[1][2:]
    assert contents(loader.epoch(2)) == expected[2]
    loader.close()


def test_workers_go_on_into_the_next_epoch(cuts: CutSet, config: Config) -> None:
    loader = training_loader(cuts, config, n_workers=2)
    pids = []
    for epoch in range(3):
        assert contents(loader.epoch(epoch))
        pids.append({process.pid for process in multiprocessing.active_children()})
    assert len(pids[0]) == 2
    assert pids[0] == pids[1] == pids[2]
    loader.close()
    assert not multiprocessing.active_children()


def test_workers_ignore_what_the_group_is_sent(cuts: CutSet, config: Config) -> None:
    loader = training_loader(cuts, config, n_workers=2)
    batches = loader.epoch(0)
    next(batches)
    for process in multiprocessing.active_children():
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(process.pid or 0, number)
    assert len(contents(batches)) == len(loader.order) - 1
    loader.close()


def test_an_error_of_a_worker_is_the_error_itself(cuts: CutSet, config: Config) -> None:
    path = Path(cuts["corpus-004"].recording.sources[0].source)
    path.write_bytes(b"")
    loader = training_loader(cuts, config, n_workers=1)
    with pytest.raises(AudioError, match=r"^utterance corpus-004: .*u4\.wav: is empty"):
        list(loader.epoch(0))
    loader.close()


def test_passes_draw_nothing_that_the_network_would_draw(cuts: CutSet, config: Config) -> None:
    state = torch.get_rng_state()
    assert list(training_loader(cuts, config).epoch(0))
    assert list(evaluation_loader(cuts, config))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("speeds", [[], [1.0], [0.9, 1.0, 1.1]])
def test_memory_changes_nothing_and_keeps_its_limit(cuts: CutSet, config: Config, speeds: list[float]) -> None:
    config.augment.speed = speeds
    path = Path(cuts["corpus-007"].recording.sources[0].source)
    soundfile.write(path, np.random.default_rng(1).uniform(-1, 1, 16000 * 65 // 100), 16000, subtype="FLOAT")  # rounded by all
    roomy, tight, none = (AudioMemory(16000, limit_gib, cuts) for limit_gib in (0.1, 0.0003, 0.0))
    loaders = [training_loader(cuts, config, memory=memory) for memory in (roomy, tight, none)]
    for epoch in (0, 1):
        results = [contents(loader.epoch(epoch)) for loader in loaders]
        assert results[0] == results[1] == results[2]
    assert roomy.n_bytes == sum(2 * cut.num_samples for cut in cuts)
    assert 0 < tight.n_bytes <= 0.0003 * 2**30
    assert none.n_bytes == 0


def test_what_is_kept_is_read_once_for_all_workers(cuts: CutSet, config: Config) -> None:
    memory = AudioMemory(16000, 0.1, cuts)
    loader = training_loader(cuts, config, memory=memory, n_workers=2)
    expected = contents(loader.epoch(0))
    assert memory.n_bytes == sum(2 * cut.num_samples for cut in cuts)  # kept by the workers, seen here
    for cut in cuts:
        Path(cut.recording.sources[0].source).unlink()
    assert contents(loader.epoch(0)) == expected
    assert contents(loader.epoch(1))
    loader.close()


def test_every_speed_is_drawn() -> None:
    chain = Chain(AugmentConfig(speed=[0.9, 1.0, 1.1]), 16000, seed=1)
    drawn = [chain.speed(f"utterance-{index}", 0) for index in range(3000)]
    for speed in chain.config.speed:
        assert drawn.count(speed) == pytest.approx(1000, abs=110)  # four standard deviations
    assert [chain.speed(f"utterance-{index}", 1) for index in range(3000)] != drawn


@pytest.mark.parametrize("factor", [0.9, 1.1, 1.05])
def test_speed_moves_length_and_pitch(factor: float) -> None:
    time_s = np.arange(16000) / 16000
    faster = change_speed(np.sin(2 * np.pi * 500 * time_s).astype(np.float32), factor)
    assert len(faster) == int(np.ceil(16000 / factor))
    peak_hz = np.abs(np.fft.rfft(faster)).argmax() * 16000 / len(faster)
    assert peak_hz == pytest.approx(500 * factor, abs=2)


def test_share_of_utterances_goes_through_mp3() -> None:
    chain = Chain(AugmentConfig(mp3_kbps=[16, 24], mp3_fraction=0.3), 16000, seed=1)
    drawn = [chain.bit_rate(f"utterance-{index}", 0) for index in range(3000)]
    assert drawn.count(None) == pytest.approx(2100, abs=110)
    assert drawn.count(16) == pytest.approx(450, abs=90)
    assert [chain.bit_rate(f"utterance-{index}", 1) for index in range(3000)] != drawn


def test_training_audio_goes_through_mp3_and_evaluation_never(cuts: CutSet, config: Config) -> None:
    config.augment.speed = []
    plain = {u: w for b in training_loader(cuts, config).epoch(0) for u, w in zip(b.ids, b.waveforms, strict=True)}
    evaluated = contents(evaluation_loader(cuts, config))
    config.augment.mp3_kbps, config.augment.mp3_fraction = [24], 1.0
    coded = {u: w for b in training_loader(cuts, config).epoch(0) for u, w in zip(b.ids, b.waveforms, strict=True)}
    assert all(plain[utterance].shape == coded[utterance].shape for utterance in plain)
    assert not any(torch.equal(plain[utterance], coded[utterance]) for utterance in plain)
    assert contents(evaluation_loader(cuts, config)) == evaluated


@pytest.mark.parametrize("sample_rate", MP3_RATES)
@pytest.mark.parametrize("kbps", [16, 24, 64])
def test_mp3_keeps_length_and_place(sample_rate: int, kbps: int) -> None:
    time_s = np.arange(int(1.3 * sample_rate)) / sample_rate
    envelope = np.exp(-(((time_s - 0.6) / 0.05) ** 2))
    burst = (0.5 * envelope * np.sin(2 * np.pi * 700 * time_s)).astype(np.float32)
    coded = through_mp3(burst, sample_rate, kbps)
    assert coded.shape == burst.shape
    assert coded.dtype == np.float32
    correlation = np.correlate(coded, burst[100:-100], mode="valid")
    assert abs(int(correlation.argmax()) - 100) <= 1
    assert not np.array_equal(coded, burst)


def test_few_bits_leave_nothing_at_the_top() -> None:
    noise = np.random.default_rng(1).normal(0, 0.1, 32000).astype(np.float32)
    spectrum, coded = (np.abs(np.fft.rfft(waveform)) for waveform in (noise, through_mp3(noise, 16000, 16)))
    assert coded[-4000:].mean() < 0.05 * spectrum[-4000:].mean()
    assert coded[4000:8000].mean() > 0.3 * spectrum[4000:8000].mean()


@pytest.mark.parametrize("n_samples", [0, 1, 400])
def test_mp3_of_almost_nothing(n_samples: int) -> None:
    assert through_mp3(np.full(n_samples, 0.1, dtype=np.float32), 16000, 24).shape == (n_samples,)


@pytest.mark.parametrize(("world_size", "batch_s"), [(1, 6.0), (2, 6.0), (3, 2.5), (7, 6.0), (4, 1.0)])
def test_every_epoch_has_as_many_batches_and_every_utterance_once(
    cuts: CutSet, config: Config, world_size: int, batch_s: float
) -> None:
    config.trainer.batch_s = batch_s
    orders = [TrainingOrder(cuts, config, world_size=world_size, rank=rank) for rank in range(world_size)]
    for epoch in range(5):
        parts = [order.epoch(epoch) for order in orders]
        assert {len(part) for part in parts} == {len(orders[0])}
        ids = [cut.id for part in parts for batch in part for cut in batch]
        n_repeated = -len(cuts) % world_size if batch_s == 1.0 else 0  # where there are as many batches as utterances
        assert len(ids) == len(cuts) + n_repeated
        assert set(ids) == set(cuts.ids)
        for step in zip(*parts, strict=True):
            longest = [max(cut.duration for cut in batch) for batch in step]
            assert all(len(batch) * most <= max(batch_s, most) for batch, most in zip(step, longest, strict=True))


def test_more_processes_than_utterances_are_refused(cuts: CutSet, config: Config) -> None:
    with pytest.raises(ConfigError, match=r"trainer\.devices=3: more processes than the 2 utterances"):
        TrainingOrder(cuts.subset(first=2), config, world_size=3)


def test_no_batch_is_larger_than_the_longest(cuts: CutSet, config: Config) -> None:
    trial = longest_batch(cuts, config)
    assert int(trial.n_samples.max()) == int(np.ceil(max(DURATIONS_S) * 16000 / 0.9))
    loader = training_loader(cuts, config)
    for epoch in range(3):
        assert max(batch.waveforms.shape[1] for batch in loader.epoch(epoch)) <= trial.waveforms.shape[1]


def test_utterances_that_are_too_long_are_reported(cuts: CutSet, config: Config, caplog: pytest.LogCaptureFixture) -> None:
    config.trainer.max_duration_s = 1.7
    n_kept = sum(len(batch) for batch in training_loader(cuts, config).epoch(0))
    assert n_kept == sum(duration <= 1.7001 for duration in DURATIONS_S) < len(DURATIONS_S)
    assert f"{len(DURATIONS_S) - n_kept} of 30 training utterances are longer than 1.7 s" in caplog.text
    assert "corpus-029 (1.8 s)" in caplog.text
    config.trainer.max_duration_s = 0.1
    with pytest.raises(DataError, match="all 30 training utterances are longer"):
        training_loader(cuts, config)


@pytest.mark.parametrize(("n_cuts", "buckets"), [(1, 10), (2, 1), (5, 50)])
def test_few_utterances_and_many_buckets(cuts: CutSet, config: Config, n_cuts: int, buckets: int) -> None:
    config.trainer.buckets = buckets
    few = cuts.subset(first=n_cuts)
    assert sum(len(batch) for batch in training_loader(few, config).epoch(0)) == n_cuts


def test_broken_audio_names_utterance_and_file(cuts: CutSet, config: Config) -> None:
    path = Path(cuts["corpus-004"].recording.sources[0].source)
    path.write_bytes(b"")
    with pytest.raises(AudioError, match=r"utterance corpus-004: .*u4\.wav: is empty"):
        list(evaluation_loader(cuts, config))


def test_cuts_of_other_tools_are_read_through_lhotse(cuts: CutSet, monkeypatch: pytest.MonkeyPatch) -> None:
    cut = cuts["corpus-010"]
    expected = load_audio(cut.recording.sources[0].source, 16000)
    joined = SpeechDataset(AudioMemory(16000)).read(Work([cut.append(cut)]))
    np.testing.assert_allclose(joined.waveforms[0], np.concatenate([expected, expected]), atol=1e-6)
    slower = SpeechDataset(AudioMemory(16000)).read(Work([cut.perturb_speed(0.9)]))
    assert int(slower.n_samples) == pytest.approx(len(expected) / 0.9, abs=2)
    part = SpeechDataset(AudioMemory(8000)).read(Work([cut.truncate(offset=0.25, duration=0.5)]))
    assert int(part.n_samples) == 4000

    def full(*args: object, **settings: object) -> None:
        raise MemoryError

    monkeypatch.setattr("lhotse.audio.Recording.load_audio", full)
    with pytest.raises(MemoryError):  # nothing is wrong with the utterance
        read_cut(cut.append(cut), 16000)


def features_of(lengths: list[int], n_bins: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    features = torch.randn(len(lengths), max(lengths), n_bins, generator=torch.Generator().manual_seed(0)) + 5.0
    return features, torch.tensor(lengths)


def test_masks_stay_inside_their_limits() -> None:
    config = dataclasses.replace(Config().augment, time_masks=1, frequency_masks=1)
    augment = SpecAugment(config, hop_s=0.01)
    features, n_frames = features_of([300, 120, 5, 1])
    some_masked = False
    for seed in range(30):
        torch.manual_seed(seed)
        changed = augment(features, n_frames) != features
        for row, length in enumerate(n_frames.tolist()):
            assert not changed[row, length:].any()
            frames = changed[row, :length].all(dim=1)
            bins = changed[row, :length].all(dim=0)
            assert frames.sum() <= min(70, int(0.2 * length))
            assert bins.sum() <= 12
            assert torch.equal(changed[row, :length], frames[:, None] | bins[None, :])
            some_masked = some_masked or bool(frames.any() and bins.any())
    assert some_masked


def test_masked_values_are_the_mean_of_the_utterance() -> None:
    augment = SpecAugment(Config().augment, hop_s=0.01)
    features, n_frames = features_of([200, 90])
    torch.manual_seed(1)
    masked = augment(features, n_frames)
    for row, length in enumerate(n_frames.tolist()):
        values = masked[row][masked[row] != features[row]]
        assert len(values) > 0
        torch.testing.assert_close(values, features[row, :length].mean().expand_as(values))


def test_padding_does_not_move_the_masks() -> None:
    augment = SpecAugment(Config().augment, hop_s=0.01)
    features, n_frames = features_of([200, 90])
    longer = torch.nn.functional.pad(features, (0, 0, 0, 77), value=9.0)
    torch.manual_seed(3)
    expected = augment(features, n_frames)
    torch.manual_seed(3)
    torch.testing.assert_close(augment(longer, n_frames)[:, :200], expected)


def test_spec_augment_follows_the_seed_and_rests_in_evaluation() -> None:
    augment = SpecAugment(Config().augment, hop_s=0.01)
    features, n_frames = features_of([200, 90])
    torch.manual_seed(0)
    first = augment(features, n_frames)
    second = augment(features, n_frames)
    torch.manual_seed(0)
    assert torch.equal(augment(features, n_frames), first)
    assert not torch.equal(first, second)
    augment.eval()
    assert augment(features, n_frames) is features
