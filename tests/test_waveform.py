"""Arrays from Python: every type, order of channels and convention is taken rightly, or refused with what to do."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import SAMPLE_RATE, tone

from asr.errors import AudioError
from asr.waveform import check_rate, check_waveform, unpack_recording

STEREO = np.stack([tone(), 0 * tone()], axis=1)


def test_numbers_of_every_type_have_its_scale() -> None:
    expected = tone()
    for floats in ("f2", "f8", ">f4"):
        np.testing.assert_allclose(check_waveform(expected.astype(floats)), expected, atol=1e-3)
    for integers, limit in (("i1", 2.0**7), ("i2", 2.0**15), (">i2", 2.0**15), ("i4", 2.0**31)):
        scaled = check_waveform((expected * limit).astype(integers))
        np.testing.assert_allclose(scaled, expected, atol=1 / limit + 1e-6)
    np.testing.assert_allclose(check_waveform((expected * 128 + 128).astype(np.uint8)), expected, atol=1e-2)
    np.testing.assert_array_equal(check_waveform(expected.tolist()), expected)
    np.testing.assert_array_equal(check_waveform(np.zeros(10, np.int32)), np.zeros(10, np.float32))


@pytest.mark.parametrize("dtype", [np.int32, np.int64, ">i4", torch.int32, torch.int64, list])
def test_integers_without_a_scale_are_refused(dtype: Any) -> None:
    samples: Any = (tone() * 32768).astype(np.int16)
    if isinstance(dtype, torch.dtype):
        samples = torch.from_numpy(samples).to(dtype)
    else:
        samples = samples.tolist() if dtype is list else samples.astype(dtype)
    with pytest.raises(AudioError, match=r"mine: int\d\d up to 16\d\d\d, whose scale is not known; .*astype\('int16'\)"):
        check_waveform(samples, "mine")


@pytest.mark.parametrize("bits", [16, 20, 24])
@pytest.mark.parametrize("dtype", ["i4", ">i4", "i8"])
def test_integers_of_fewer_bits_than_their_type_are_refused(bits: int, dtype: str) -> None:
    samples = (tone() * 2.0 ** (bits - 1)).astype(dtype)
    advice = 16 if bits == 16 else 24
    with pytest.raises(AudioError, match=rf"whose scale is not known; .* / 2\.0\*\*{advice - 1} if they have {advice} bits"):
        check_waveform(samples, "mine")


def test_faint_integers_that_can_only_be_of_32_bits_are_scaled() -> None:
    faint = (tone() * 100).astype(np.int32) << 16
    np.testing.assert_allclose(check_waveform(faint), faint / 2.0**31)


@pytest.mark.parametrize("scale", [128.0, 32768.0, 2.0**23, 2.0**31])
@pytest.mark.parametrize("n_channels", [1, 2])
def test_integers_that_became_floats_are_refused(scale: float, n_channels: int) -> None:
    samples = np.stack([scale * tone()] * n_channels, axis=1)
    with pytest.raises(AudioError, match=r"mine: has samples as large as \d.*, expected floats from -1 to 1; divide"):
        check_waveform(samples, "mine")


def test_floats_that_go_beyond_1_are_taken_as_they_are() -> None:
    np.testing.assert_array_equal(check_waveform(12 * tone()), 12 * tone())
    assert np.abs(12 * tone()).max() > 5


def test_tensors_of_every_kind() -> None:
    expected = tone()
    tensor = torch.from_numpy(expected)
    np.testing.assert_array_equal(check_waveform(tensor.clone().requires_grad_()), expected)
    np.testing.assert_array_equal(check_waveform((tensor.clone().requires_grad_() * 2)[::2]), 2 * expected[::2])
    np.testing.assert_allclose(check_waveform(tensor.bfloat16()), expected, atol=2e-3)
    np.testing.assert_array_equal(check_waveform(torch._neg_view(tensor)), -expected)
    np.testing.assert_array_equal(check_waveform(torch.stack([tensor, tensor])), expected)
    with pytest.raises(AudioError, match="mine: Tensor cannot be made an array of samples"):
        check_waveform(torch.zeros(100, device="meta"), "mine")


def test_the_shorter_side_is_the_channels() -> None:
    for array in (STEREO, STEREO.T, torch.from_numpy(STEREO.T), (STEREO[:, 0], STEREO[:, 1])):
        np.testing.assert_array_equal(check_waveform(array, channel=0), tone())
        np.testing.assert_array_equal(check_waveform(array), tone() / 2)
    np.testing.assert_array_equal(check_waveform(tone()[None]), tone())
    with pytest.raises(AudioError, match="mine: has no channel 2"):
        check_waveform(STEREO, "mine", 2)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(0), "no audio samples"),
        (np.zeros((2, 2, 2)), "got shape"),
        (np.zeros((2, 2)), "does not tell samples from channels"),
        (np.array(["a", "b"]), "expected floats, or integers"),
        (np.zeros(4, complex), "expected floats, or integers"),
        (np.zeros(4, bool), "expected floats, or integers"),
        (np.zeros(4, np.uint16), "expected floats, or integers"),
        (np.zeros(4, "datetime64[s]"), "expected floats, or integers"),
        (np.zeros(4, "timedelta64[s]"), "expected floats, or integers"),
        (None, "got NoneType"),
        (16000, "got int"),
        ({1.0, 2.0}, "got set"),
        ([[0.1, 0.2], [0.3]], "list cannot be made an array of samples"),
    ],
)
def test_arrays_that_are_no_audio(array: Any, message: str) -> None:
    with pytest.raises(AudioError, match=f"mine: .*{message}"):
        check_waveform(array, "mine")


def test_recordings_that_bring_their_rate() -> None:
    array = tone()
    decoded = SimpleNamespace(data=array, sample_rate=44100)
    for source in (
        (44100, array),
        [44100, array],
        (array, 44100),
        (torch.from_numpy(array), np.int64(44100)),
        {"array": array, "sampling_rate": 44100, "path": "a.wav"},
        {"raw": array, "sampling_rate": 44100},
        decoded,
        SimpleNamespace(get_all_samples=lambda: decoded),
    ):
        for given in (None, 44100):
            samples, rate = unpack_recording(source, given, "mine")
            np.testing.assert_array_equal(samples, array)
            assert rate == 44100
        with pytest.raises(AudioError, match=r"mine: comes with a sample rate of 44100 Hz, but sample_rate=16000"):
            unpack_recording(source, 16000, "mine")
    assert unpack_recording({"bytes": None, "path": "a.wav"}, None, "mine") == ("a.wav", None)
    assert unpack_recording({"bytes": b"RIFF", "path": "a.wav"}, None, "mine") == (b"RIFF", None)
    with pytest.raises(AudioError, match="mine: a mapping with the keys audio; expected array and sampling_rate"):
        unpack_recording({"audio": array}, None, "mine")


def test_what_is_no_rate_is_not_shown_at_length() -> None:
    with pytest.raises(AudioError, match="mine: has a sample rate of ndarray Hz, expected a whole number"):
        check_rate(tone(), "mine")


@pytest.mark.parametrize(
    "source", [tone(), [0.5, 0.25], "a.wav", (0.5, 0.25), (tone(), tone()), b"RIFF", np.zeros(4, "datetime64[s]")]
)
def test_other_recordings_are_left_as_they_are(source: Any) -> None:
    samples, rate = unpack_recording(source, SAMPLE_RATE, "mine")
    assert samples is source
    assert rate == SAMPLE_RATE
