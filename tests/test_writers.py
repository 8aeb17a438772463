"""Transcripts as text, JSON, subtitles and tables, read back by other people's programs."""

from __future__ import annotations

import dataclasses
import html
import json
from datetime import timedelta
from io import StringIO

import pytest
import srt
import webvtt
from hypothesis import given
from hypothesis import strategies as st

from asr.decoding.hypothesis import Word
from asr.errors import ConfigError
from asr.transcription.subtitles import SubtitleLayout, make_cues
from asr.transcription.transcript import Segment, Transcript
from asr.transcription.writers import FORMATS, NEEDS_WORDS, render

PLAIN = Transcript("d/a.wav", 3.25, (Segment(0.0, 2.0, "oh"), Segment(2.0, 3.25, "\u00e4")), "m", "abc")
SPOKEN = Transcript(
    "my talks/first talk.final.mp3",
    3662.0,
    (
        Segment(0.0, 2.0, "oh no", (Word("oh", 0.11111, 0.5, 0.91234), Word("no", 0.5, 1.0, 0.5))),
        Segment(3661.0, 3662.0, "<i> & --> x", tuple(Word(text, 3661.2345, 3661.5, 0.75) for text in ("<i>", "&", "-->", "x"))),
    ),
    "m",
    "abc",
)


@st.composite
def transcripts(draw: st.DrawFn) -> Transcript:
    """Words of any characters that are no blanks, in segments."""
    segments, time_s = [], 0.0
    for _ in range(draw(st.integers(0, 4))):
        words = []
        for text in draw(st.lists(st.text("abc\u00e4\u65e5<>&-'", min_size=1, max_size=12), min_size=1, max_size=20)):
            end_s = time_s + draw(st.floats(0.0, 1.0))
            words.append(Word(text, time_s, end_s, draw(st.floats(0, 1))))
            time_s = end_s + draw(st.floats(0.0, 2.0))
        text = " ".join(word.text for word in words)
        segments.append(Segment(words[0].start_s, words[-1].end_s, text, tuple(words)))
    return Transcript("a.wav", time_s, tuple(segments), "m", "abc")


def test_text() -> None:
    assert render(PLAIN, "txt") == "oh \u00e4\n"
    assert render(SPOKEN, "txt") == "oh no <i> & --> x\n"


def test_json() -> None:
    assert json.loads(render(PLAIN, "json")) == {
        "file": "d/a.wav",
        "channel": None,
        "duration_s": 3.25,
        "text": "oh \u00e4",
        "segments": [{"start_s": 0.0, "end_s": 2.0, "text": "oh"}, {"start_s": 2.0, "end_s": 3.25, "text": "\u00e4"}],
        "model": {"name": "m", "checkpoint": "abc"},
    }
    assert render(PLAIN, "json").count("\n") == 1


def test_json_with_words() -> None:
    first, _ = json.loads(render(SPOKEN, "json"))["segments"]
    assert first == {
        **{"start_s": 0.0, "end_s": 2.0, "text": "oh no", "confidence": 0.706},
        "words": [
            {"text": "oh", "start_s": 0.111, "end_s": 0.5, "confidence": 0.912},
            {"text": "no", "start_s": 0.5, "end_s": 1.0, "confidence": 0.5},
        ],
    }


def test_json_with_other_readings() -> None:
    segment = dataclasses.replace(PLAIN.segments[0], alternatives=("o", "owe"))
    first, second = json.loads(render(dataclasses.replace(PLAIN, segments=(segment, PLAIN.segments[1])), "json"))["segments"]
    assert first["alternatives"] == ["o", "owe"]
    assert "alternatives" not in second


def test_srt() -> None:
    assert render(SPOKEN, "srt") == (
        "1\n00:00:00,111 --> 00:00:01,111\noh no\n\n2\n01:01:01,234 --> 01:01:02,234\n<i> & --> x\n"
    )  # fmt: skip


def test_vtt() -> None:
    assert render(SPOKEN, "vtt") == (
        "WEBVTT\n\n00:00:00.111 --> 00:00:01.111\noh no\n\n"
        "01:01:01.234 --> 01:01:02.234\n&lt;i&gt; &amp; --&gt; x\n"
    )  # fmt: skip


def test_layout_shapes_subtitles() -> None:
    narrow = SubtitleLayout(max_line_length=10, max_lines=1)
    words = tuple(Word(text, index, index + 0.9, 1.0) for index, text in enumerate(["moby", "dick", "or", "the", "whale"]))
    transcript = Transcript("a.wav", 5.0, (Segment(0.0, 5.0, "moby dick or the whale", words),), "m", "abc")
    for format in ("srt", "vtt"):
        assert "\nmoby dick\n" in render(transcript, format, narrow)
        assert "\nmoby dick or the whale\n" in render(transcript, format)


def test_tsv() -> None:
    assert render(SPOKEN, "tsv") == "start\tend\ttext\n0\t2000\toh no\n3661000\t3662000\t<i> & --> x\n"
    odd = Transcript("a.wav", 1.0, (Segment(0.0, 1.0, "a\tb\nc\u2028d"),), "m", "abc")
    assert render(odd, "tsv") == "start\tend\ttext\n0\t1000\ta b c d\n"


def test_ctm() -> None:
    assert render(SPOKEN, "ctm").splitlines()[:3] == [
        "first_talk.final 1 0.111 0.389 oh 0.912",
        "first_talk.final 1 0.500 0.500 no 0.500",
        "first_talk.final 1 3661.234 0.266 <i> 0.750",
    ]


def test_ctm_is_sorted_and_names_the_channel() -> None:
    late, early = Word("late", 2.0, 3.0, 1.0), Word("early", 1.0, 2.5, 1.0)
    transcript = Transcript("a.wav", 3.0, (Segment(0.0, 3.0, "late early", (late, early)),), "m", "abc", channel=1)
    assert render(transcript, "ctm") == "a 2 1.000 1.500 early 1.000\na 2 2.000 1.000 late 1.000\n"
    assert json.loads(render(transcript, "json"))["channel"] == 1


def test_nothing_said() -> None:
    silence = Transcript("a.wav", 1.0, (), "m", "abc")
    empty = {"txt": "", "srt": "", "vtt": "WEBVTT\n", "tsv": "start\tend\ttext\n", "ctm": ""}
    assert {format: render(silence, format) for format in FORMATS if format != "json"} == empty
    assert "notices" not in json.loads(render(silence, "json"))
    told = dataclasses.replace(silence, notices=("no speech was found",))
    assert json.loads(render(told, "json"))["notices"] == ["no speech was found"]


def test_what_cannot_be_shown() -> None:
    with pytest.raises(ConfigError, match="there are txt, json, srt, vtt, tsv, ctm"):
        render(PLAIN, "doc")
    for format in FORMATS:
        if format in NEEDS_WORDS:
            with pytest.raises(ConfigError, match=rf"d/a\.wav: {format} shows when words are said.*words=True"):
                render(PLAIN, format)
        else:
            assert render(PLAIN, format)


@given(transcripts())
def test_other_programs_read_the_subtitles(transcript: Transcript) -> None:
    words = [word for segment in transcript.segments for word in segment.words]
    cues = [(cue.start_ms, cue.end_ms, list(cue.lines)) for cue in make_cues(words, SubtitleLayout())]
    millisecond = timedelta(milliseconds=1)
    read = srt.parse(render(transcript, "srt"))
    assert [(item.start // millisecond, item.end // millisecond, item.content.split("\n")) for item in read] == cues
    captions = webvtt.from_buffer(StringIO(render(transcript, "vtt"))).captions
    assert [(stamp(item.start), stamp(item.end), [html.unescape(line) for line in item.lines]) for item in captions] == cues


@given(transcripts())
def test_tables_have_the_right_number_of_fields(transcript: Transcript) -> None:
    assert all(len(row.split("\t")) == 3 for row in render(transcript, "tsv").split("\n")[:-1])
    rows = [row.split(" ") for row in render(transcript, "ctm").split("\n")[:-1]]
    assert [row[4] for row in rows] == transcript.text.split()
    assert all(len(row) == 6 and float(row[3]) >= 0 and 0 <= float(row[5]) <= 1 for row in rows)
    starts = [float(row[2]) for row in rows]
    assert starts == sorted(starts)


def stamp(text: str) -> int:
    """``01:02:03.004`` in milliseconds."""
    hours, minutes, seconds = text.split(":")
    whole, thousandths = seconds.split(".")
    return ((int(hours) * 60 + int(minutes)) * 60 + int(whole)) * 1000 + int(thousandths)
