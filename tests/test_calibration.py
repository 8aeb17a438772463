"""Calibration of confidences and errors of word times: figures by hand and against scikit-learn, and `asr evaluate`."""

from __future__ import annotations

import json
import math
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import soundfile
from lhotse import MonoCut, Recording, SupervisionSegment

from asr.cli import main
from asr.data.manifest import write_manifest
from asr.decoding.hypothesis import Word
from asr.errors import DataError
from asr.scoring.calibration import CalibrationReport, calibration_report, right_words, words_correct
from asr.scoring.diagram import write_calibration
from asr.scoring.times import time_errors

RATE = 16000


def report_of(confidences: list[float], correct: list[bool]) -> CalibrationReport:
    return CalibrationReport(np.array(confidences), np.array(correct, dtype=bool))


def random_report(n_words: int = 500, seed: int = 0) -> CalibrationReport:
    rng = np.random.default_rng(seed)
    confidences = rng.integers(0, 101, n_words) / 100  # with ties
    return CalibrationReport(confidences, rng.random(n_words) < confidences**2)


class TestFigures:
    def test_error_by_hand(self) -> None:
        # Three bins of fifteen: [0.06, 0.13) holds 0.1 0.1, [0.46, 0.53) holds 0.5, the last holds 0.95 and 1.0.
        report = report_of([0.1, 0.5, 1.0, 0.1, 0.95], [False, False, True, True, True])
        assert [(one.n_words, one.accuracy) for one in report.bins()] == [(2, 0.5), (1, 0.0), (2, 1.0)]
        assert [one.confidence for one in report.bins()] == pytest.approx([0.1, 0.5, 0.975])
        assert report.error() == pytest.approx((2 * 0.4 + 1 * 0.5 + 2 * 0.025) / 5)

    def test_equally_full_bins(self) -> None:
        # Thirty words in pairs of equal confidence: each pair is a bin.
        pairs = np.repeat(np.arange(15) / 15, 2)
        correct = np.tile([True, False], 15)
        report = CalibrationReport(pairs, correct)
        bins = report.bins(equal_mass=True)
        assert [(one.n_words, one.low, one.high) for one in bins] == [(2, k / 15, k / 15) for k in range(15)]
        assert report.error(equal_mass=True) == pytest.approx(np.abs(0.5 - np.arange(15) / 15).mean())

    def test_interval_by_hand(self) -> None:
        # Wilson for 8 of 10, as in every textbook's table: 0.490 to 0.943.
        (one,) = report_of([0.7] * 10, [True] * 8 + [False] * 2).bins()
        assert one.interval == pytest.approx((0.490, 0.943), abs=5e-4)

    def test_area_agrees_with_scikit_learn(self) -> None:
        metrics = pytest.importorskip("sklearn.metrics")
        report = random_report()
        assert report.auc == pytest.approx(metrics.roc_auc_score(report.correct, report.confidences))

    def test_cross_entropy(self) -> None:
        correct = [True, True, True, False]
        assert report_of([0.75] * 4, correct).normalised_cross_entropy == pytest.approx(0.0)  # no more than the accuracy
        assert report_of([1.0, 1.0, 1.0, 0.0], correct).normalised_cross_entropy == pytest.approx(1.0, abs=1e-5)
        # (H - left) / H with H = -3 log2(3/4) - log2(1/4) = 3.2451 and left = -2 log2(0.5) - log2(0.8) - log2(0.9) = 2.4739
        found = report_of([0.5, 0.8, 0.5, 0.1], correct).normalised_cross_entropy
        assert found == pytest.approx((3.2451 - 2.4739) / 3.2451, abs=1e-4)
        assert report_of([0.1, 0.1, 0.1, 0.9], correct).normalised_cross_entropy < 0

    def test_true_confidences_are_off_by_chance_alone(self) -> None:
        rng = np.random.default_rng(0)
        confidences = rng.random(2000)
        errors = [CalibrationReport(confidences, rng.random(2000) < confidences).error() for _ in range(50)]
        report = CalibrationReport(confidences, rng.random(2000) < confidences)
        assert report.chance_error == pytest.approx(np.mean(errors), rel=0.1)

    def test_undefined_figures(self, tmp_path: Path) -> None:
        report = report_of([0.3, 0.9], [True, True])
        assert math.isnan(report.auc)
        assert math.isnan(report.normalised_cross_entropy)
        assert report.to_mapping()["auc"] is report.to_mapping()["nce"] is None
        nothing = report_of([], [])
        assert "no words" in nothing.summary()
        _, figures = write_calibration(nothing, tmp_path, "empty", "nothing")
        assert json.loads(figures.read_text()) == {"words": 0, "right": 0, "bins": []}


class TestPairing:
    @pytest.mark.parametrize(
        ("reference", "hypothesis", "expected"),
        [
            ("the cat sat", "a cat sat down", [False, True, True, False]),
            ("the cat", "the cat", [True, True]),
            ("", "uh", [False]),
            ("the cat", "", []),
            ("a b c", "c", [True]),
            ("one  two ", " one two", [True, True]),
        ],
    )
    def test_words_correct(self, reference: str, hypothesis: str, expected: list[bool]) -> None:
        assert words_correct(reference, hypothesis) == expected

    def test_right_words_have_their_positions_on_both_sides(self) -> None:
        assert right_words("so the cat sat", "the cat sat down") == [(1, 0), (2, 1), (3, 2)]

    def test_utterances_are_paired_by_id(self) -> None:
        words = {"b": [Word("two", 0, 1, 0.2)], "a": [Word("one", 0, 1, 0.9), Word("more", 1, 2, 0.4)]}
        report = calibration_report({"a": "one", "b": "three"}, words)
        assert report.confidences.tolist() == [0.9, 0.4, 0.2]
        assert report.correct.tolist() == [True, False, False]
        with pytest.raises(DataError, match="c"):
            calibration_report({"a": "one", "c": "three"}, words)


class TestTimes:
    def test_right_words_are_compared(self) -> None:
        said = [Word("a", 0.0, 0.5, 1.0), Word("b", 0.5, 1.0, 1.0), Word("c", 1.0, 2.0, 1.0)]
        found = [Word("a", 0.1, 0.5, 0.9), Word("c", 0.8, 2.4, 0.9)]
        errors = time_errors([(said, found), ([], [])], n_left_out=2)
        np.testing.assert_allclose(errors.starts_s, [0.1, -0.2])
        np.testing.assert_allclose(errors.ends_s, [0.0, 0.4])
        assert errors.summary() == (
            "word times against the aligned transcripts: starts median 150 ms, mean 150 ms, 90 % within "
            "190 ms; ends median 200 ms, mean 200 ms, 90 % within 360 ms; 2 right words; 2 transcripts could not be aligned"
        )
        assert errors.to_mapping()["end_p90_s"] == pytest.approx(0.36)

    def test_no_right_words(self) -> None:
        errors = time_errors([([Word("a", 0, 1, 1)], [Word("b", 0, 1, 1)])])
        assert "no right words" in errors.summary()
        undefined = [f"{edge}_{figure}_s" for edge in ("start", "end") for figure in ("median", "mean", "p90")]
        assert errors.to_mapping() == {"words": 0, "left_out": 0, **dict.fromkeys(undefined)}


class TestDiagram:
    def test_it_is_svg_with_its_figures_and_always_the_same(self, tmp_path: Path) -> None:
        report = random_report()
        one, other = (write_calibration(report, tmp_path, stem, "a < b")[0] for stem in ("one", "other"))
        root = ElementTree.parse(one).getroot()
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        texts = " ".join("".join(node.itertext()) for node in root.iter("{http://www.w3.org/2000/svg}text"))
        for part in ("a < b", "500 words", f"ECE {100 * report.error():.2f} %", "share of right words", "wrong words"):
            assert part in texts
        assert one.read_bytes() == other.read_bytes()

    def test_one_word_and_none(self, tmp_path: Path) -> None:
        for report in (report_of([1.0], [True]), report_of([], [])):
            ElementTree.parse(write_calibration(report, tmp_path, "few", "few")[0])


@pytest.fixture
def manifests(tmp_path: Path) -> Path:
    """The manifest ``tiny/dev``: noise with transcripts, of which one holds unknown characters and one is far too long."""
    rng = np.random.default_rng(0)
    cuts = []
    for index, (text, seconds) in enumerate(
        [("hello world", 2.0), ("room 42", 1.0), ("a b c d e f g h i j k l m n o", 0.5), ("", 1.0)]
    ):
        path = tmp_path / f"u{index}.wav"
        loudness = np.repeat(rng.uniform(0.01, 0.3, 20), round(seconds * RATE / 20))
        soundfile.write(path, loudness * rng.normal(0, 0.3, len(loudness)), RATE)
        recording = Recording.from_file(path, recording_id=f"u{index}")
        supervision = SupervisionSegment(f"u{index}", f"u{index}", 0.0, recording.duration, text=text)
        cuts.append(MonoCut(f"u{index}", 0.0, recording.duration, channel=0, recording=recording, supervisions=[supervision]))
    write_manifest(cuts, tmp_path / "manifests" / "tiny" / "dev.jsonl.gz")
    return tmp_path / "manifests"


def test_command_reports_and_draws(package: Path, manifests: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    command = ["evaluate", str(package), "tiny/dev", "--manifests", str(manifests), "-o", str(out)]
    assert main(command) == 0
    plain = capsys.readouterr().out
    assert "confidences" not in plain
    assert main([*command, "--calibration", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "confidences: ECE " in printed
    assert "; 2 transcripts could not be aligned" in printed
    assert printed.splitlines()[1:3] == plain.splitlines()[1:3]  # the error rates are those of a plain run
    assert sorted(path.name for path in out.iterdir()) == [
        *("tiny-dev.calibration.json", "tiny-dev.calibration.svg", "tiny-dev.json", "tiny-dev.jsonl")
    ]
    summary = json.loads((out / "tiny-dev.json").read_text())
    assert main([*command, "--calibration", str(out / "tiny-dev.json")]) != 0
    assert capsys.readouterr().out == ""  # refused before any work
    rows = [json.loads(line) for line in (out / "tiny-dev.jsonl").read_text().splitlines()]
    figures = json.loads((out / "tiny-dev.calibration.json").read_text())
    assert figures["words"] == sum(len(row["hypothesis"].split()) for row in rows) == sum(b["words"] for b in figures["bins"])
    assert figures["right"] == summary["wer"]["N"] - summary["wer"]["S"] - summary["wer"]["D"]


def test_settings_of_the_confidences_reach_them(
    package: Path, manifests: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    means = []
    for bias in (-50, 50):
        override = f"decoding.confidence_bias={bias}"
        command = ["evaluate", str(package), "tiny/dev", override, "--manifests", str(manifests)]
        assert main([*command, "--calibration", str(tmp_path / "out")]) == 0
        (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("confidences")]
        means.append(float(line.rpartition("mean=")[2]))
    assert means == [0.0, 1.0]
