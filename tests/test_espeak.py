"""eSpeak NG as a synthesiser and as a pronouncer, in one process and from several threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from asr.errors import ConfigError
from asr.speech.espeak import EspeakVoices, pronounce


def test_phones_of_words() -> None:
    found = pronounce(["thoughtful", "choice", "xiv", "'", "x" * 101, ""], "en-us")
    assert found["thoughtful"] == (("θ", "ˈɔː", "t", "f", "əl"),)
    assert found["choice"] == (("tʃ", "ˈɔɪ", "s"),)  # an affricate and a diphthong are one phone each
    assert ["".join(part) for part in found["xiv"]] == ["ɹˌoʊmən", "fˈɔːɹtiːn"]
    assert found["'"] == found["x" * 101] == found[""] == ()


def test_marks_of_another_language_are_no_phones() -> None:
    assert pronounce(["team"], "de")["team"] == (("t", "ˈiː", "m"),)


@pytest.mark.parametrize("voice", ["../../etc/passwd", "/tmp/voice", "", "en us", "EN", "en-us+../f1", "en\0"])
def test_a_voice_is_never_a_path(voice: str) -> None:
    with pytest.raises(ConfigError, match="no name of a voice"):
        pronounce(["a"], voice)


def test_absent_voices() -> None:
    with pytest.raises(ConfigError, match=r"no voice 'xx-none'.*such as en-us"):
        pronounce(["a"], "xx-none")
    with pytest.raises(ConfigError, match="no voice"):
        EspeakVoices().speak("one", "xx-none")


def test_pronouncing_and_speaking_do_not_disturb_each_other() -> None:
    first = EspeakVoices()
    before = first.speak("one two", "en-us+m1")
    words = ["red", "jazz", "vielleicht"]
    english, german = pronounce(words, "en-us"), pronounce(words, "de")
    assert english != german
    second = EspeakVoices()
    assert len(second.speak("one two", "en-us+f1")) > 0
    after = first.speak("one two", "en-us+m1")
    assert len(after) == pytest.approx(len(before), rel=0.02)
    assert np.abs(after).max() == pytest.approx(np.abs(before).max(), rel=0.2)
    assert pronounce(words, "en-us") == english


def test_threads_with_different_voices() -> None:
    words = [f"{start}{end}" for start in ("str", "w", "j", "v") for end in ("and", "ein", "ier", "ou", "eu")]
    expected = {voice: pronounce(words, voice) for voice in ("en-us", "de", "fr", "es")}
    voices = list(expected) * 20
    with ThreadPoolExecutor(4) as pool:
        for voice, found in zip(voices, pool.map(lambda voice: pronounce(words, voice), voices), strict=True):
            assert found == expected[voice]
