"""`--report`: the page of an evaluation or a comparison holds what was measured, whatever the texts, and needs nothing else."""

from __future__ import annotations

import base64
import io
import json
import random
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from lightning.pytorch.loggers import TensorBoardLogger
from test_evaluate import write_tiny_manifest

from asr.cli import main
from asr.errors import ConfigError
from asr.scoring import report as reports
from asr.scoring.breakdown import break_down
from asr.scoring.compare import System, compare
from asr.scoring.curves import read_curves
from asr.scoring.report import Report, address, check_embedded
from asr.scoring.score import score
from asr.scoring.systems import read_systems

WORDS = ["a", "the", "cat", "sat", "on", "mat", "and", "it", "was", "so"]
HOSTILE = [
    "</script><script>alert(1)</script>",
    "<!-- <script> \"quoted\" 'too' & &amp; `${x}` \\",
    "/*DATA*/ /*SOUNDS*/ /*SCRIPT*/",
    "\u202eright to left\u202c \u0634\u06a9\u0631",
    "nul\x00bell\x07escape\x1b[31m \u2028 \ufeff",
    "w" * 5000,
]


def data_of(page: Path) -> dict[str, Any]:
    """Return what a page shows, as a browser reads it: the element ends at the first end of a script."""
    (found,) = re.findall(r'<script type="application/json" id="data">(.*?)</script', page.read_text("utf-8"), re.DOTALL)
    content: dict[str, Any] = json.loads(found)
    return content


def heard(rng: random.Random, text: str) -> str:
    kept = [rng.choice(WORDS) if rng.random() < 0.2 else word for word in text.split() if rng.random() > 0.1]
    return " ".join([*kept, *(["so"] if rng.random() < 0.2 else [])])


def report_of(said: dict[str, str], *systems: dict[str, str], attributes: dict[str, dict[str, Any]] | None = None) -> Report:
    scored = [System.of(f"system {number}", score(said, texts)) for number, texts in enumerate(systems)]
    details = [break_down(one.score, one.alignments, attributes or {}) for one in scored]
    return Report("a title", scored, details, [attributes or {}] * len(scored), compare(scored).differences)


def test_page_holds_the_scores(tmp_path: Path) -> None:
    rng = random.Random(0)
    said = {f"u{index}": " ".join(rng.choices(WORDS, k=rng.randrange(0, 12))) for index in range(200)}
    systems = [{name: heard(rng, text) for name, text in said.items()} for _ in range(2)]
    attributes = {name: {"speaker": f"s{index % 12}", "duration_s": 1 + index / 100} for index, name in enumerate(said)}
    report = report_of(said, *systems, attributes=attributes)
    report.write(tmp_path / "page.html")
    found = data_of(tmp_path / "page.html")
    rows = found["utterances"]
    assert rows["ids"] == list(said)
    for number, system in enumerate(report.systems):
        for place, row in enumerate(system.score.utterances):
            edits = rows["edits"][number][place]
            counts = {letter.upper(): edits.count(letter) for letter in "sdi"}
            assert {**counts, "N": len(rows["references"][place].split())} == row.words.to_mapping()
            assert rows["hypotheses"][number][place] == row.hypothesis
        shown = found["systems"][number]
        assert [shown[name] for name in ("wer", "cer", "ser")] == [
            one.to_mapping() for one in (system.score.wer, system.score.cer, system.score.ser)
        ]
        assert shown["confusions"] == report.details[number].confusions.to_mapping()
        assert sum(group["utterances"] for group in shown["groups"]["speaker"]) == len(said)
    (difference,) = found["differences"]
    assert (difference["rate"], difference["p"]) == (report.differences[0].wer, report.differences[0].p)
    assert [rows["speakers"]["names"][index] for index in rows["speakers"]["index"]][:3] == ["s0", "s1", "s2"]
    assert rows["duration_s"][2] == attributes["u2"]["duration_s"]


def test_hostile_texts_are_texts(tmp_path: Path) -> None:
    said = {f"{text[:60]} {number}": text for number, text in enumerate(HOSTILE)}
    wrote = {name: HOSTILE[0] for name in said}
    attributes = {name: {"speaker": name, "audio": f"/x/{name}"} for name in said}
    report = report_of(said, wrote, wrote, attributes=attributes)
    report.write(tmp_path / "page.html")
    report_of({"u": "a"}, {"u": "a"}, {"u": "a"}).write(tmp_path / "tame.html")
    rows = data_of(tmp_path / "page.html")["utterances"]
    assert rows["ids"] == list(said)
    assert rows["references"] == [" ".join(text.split()) for text in said.values()]
    tags = [sorted(re.findall(r"<[a-z!/][^>\s]*", (tmp_path / name).read_text("utf-8"))) for name in ("page.html", "tame.html")]
    assert tags[0] == tags[1]


def test_page_asks_nothing_of_a_network(tmp_path: Path) -> None:
    audio = {"u": {"audio": "http://example.com/a.wav"}, "v": {"audio": "//example.com/a.wav"}}
    report_of({"u": "a", "v": ""}, {"u": "b", "v": ""}, attributes=audio).write(tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text("utf-8")
    assert re.findall(r"(?<!/)(?:https?:)?//[a-z]+\.[^\"']*", text.replace("http://www.w3.org/2000/svg", "")) == []
    assert "default-src 'none'" in text
    for one in data_of(tmp_path / "page.html")["utterances"]["audio"]:
        assert not re.match(r"[a-z]+:(?!///)|//", one)


def test_page_grows_by_little_more_than_the_texts(tmp_path: Path) -> None:
    rng = random.Random(0)
    said = {f"speaker-{index:05}": " ".join(rng.choices(WORDS, k=15)) for index in range(1000)}
    wrote = {name: heard(rng, text) for name, text in said.items()}
    attributes = {name: {"audio": f"{tmp_path}/{name}.wav", "duration_s": 4.0} for name in said}
    report_of(said, wrote, wrote, attributes=attributes).write(tmp_path / "page.html")
    texts = sum(len(text) for part in (said, said, wrote, wrote) for text in part.values())
    assert (tmp_path / "page.html").stat().st_size < 1.6 * texts + 100_000  # and so less than 10 MB for 10,000 of them


def test_addresses_of_files(tmp_path: Path) -> None:
    assert address(str(tmp_path / "audio" / "a #1.wav"), tmp_path / "pages") == "../audio/a%20%231.wav"
    assert address("/corpora/a.wav", Path("/home/me")) == "file:///corpora/a.wav"
    assert address("/corpora/a\udcff.wav", Path("/corpora")) == "a%FF.wav"


def write_results(folder: Path, name: str, **more: Any) -> Path:
    """Write two utterances, the first's sound beside them."""
    rng = np.random.default_rng(0)
    soundfile.write(folder / "one.wav", rng.normal(0, 0.1, 32000), 16000)
    rows = [
        {"id": "u1", "reference": "a b", "hypothesis": "a c", "audio": "one.wav", "start_s": 0.5, "duration_s": 1.0, **more},
        {"id": "u2", "reference": "d", "hypothesis": "d", "duration_s": 1.0},
    ]
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_comparison_with_linked_and_embedded_sound(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [
        write_results(tmp_path, "a.jsonl", word_times_s=[[0, 0.3], [0.4, 0.912]]),
        write_results(tmp_path, "b.jsonl", word_times_s=[[0, "x"]]),
    ]
    page = tmp_path / "pages" / "page.html"
    assert main(["compare", *map(str, files), "--report", str(page)]) == 0
    rows = data_of(page)["utterances"]
    assert rows["audio"] == ["../one.wav", None]
    assert (rows["start_s"], rows["times"]) == ([0.5, None], [[[0, 0.3, 0.4, 0.91], None], None])
    assert 'id="sound-' not in page.read_text("utf-8")

    assert main(["compare", *map(str, files), "--report", str(page), "--embed-audio"]) == 3
    assert "1 utterances" in capsys.readouterr().err
    (found,) = re.findall(r'<script type="text/plain" id="sound-0">([^<]*)</script>', page.read_text("utf-8"))
    waveform, rate = soundfile.read(io.BytesIO(base64.b64decode(found)))
    assert len(waveform) / rate == pytest.approx(1.0, abs=0.1)
    assert len(base64.b64decode(found)) < 8000

    (tmp_path / "one.wav").write_bytes(b"no sound")
    assert main(["compare", str(files[0]), "--report", str(page), "--embed-audio"]) == 3
    assert "u1: its sound is not in the page" in capsys.readouterr().err


def test_each_system_has_its_own_confidences(tmp_path: Path) -> None:
    files = [write_results(tmp_path, "a.jsonl", confidence=0.9), write_results(tmp_path, "b.jsonl", confidence=0.2)]
    assert [known["u1"]["confidence"] for known in read_systems(files).attributes] == [0.9, 0.2]


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--report", "{folder}"], "is a folder"),
        (["--report", "{file}/page.html"], "is not a folder"),
        (["--embed-audio"], "there is no report"),
    ],
)
def test_comparison_refuses_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], part: str
) -> None:
    (tmp_path / "file").write_text("")
    places = {"folder": tmp_path, "file": tmp_path / "file"}
    assert main(["compare", "absent.jsonl", *(one.format(**places) for one in arguments)]) == 2
    captured = capsys.readouterr()
    assert part in captured.err
    assert captured.out == ""


def test_evaluation_writes_a_page(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifests = write_tiny_manifest(tmp_path)
    command = ["evaluate", str(package), "tiny/dev", "--manifests", str(manifests), "decoding.kind=greedy"]
    assert main([*command, "--report", str(tmp_path / "pages"), "--embed-audio", "-o", str(tmp_path / "out")]) == 0
    page = tmp_path / "pages" / "tiny-dev.html"
    found = data_of(page)
    assert found["title"].endswith("on tiny/dev")
    assert any("signature" in note for note in found["notes"])
    assert page.read_text("utf-8").count('id="sound-') == 5
    written = [json.loads(line) for line in (tmp_path / "out" / "tiny-dev.jsonl").read_text().splitlines()]
    assert [row["audio"] for row in written] == [str(tmp_path / f"{row['id']}.wav") for row in written]
    assert found["utterances"]["audio"] == [f"../{row['id']}.wav" for row in written]
    for row, times in zip(written, found["utterances"]["times"][0], strict=True):
        assert len(row["hypothesis"].split()) == len(times or ()) / 2 == len(row.get("word_times_s", ()))

    monkeypatch.setattr(reports, "MAX_EMBEDDED_H", 0.001)
    page.unlink()
    assert main([*command, "--report", str(tmp_path / "pages"), "--embed-audio"]) == 2
    assert main([*command, "--embed-audio"]) == 2
    (tmp_path / "file").write_text("")
    assert main([*command, "--report", str(tmp_path / "file")]) == 2
    assert not page.exists()


def test_audio_has_a_limit() -> None:
    check_embedded("x", 4 * 3600)
    with pytest.raises(ConfigError, match=r"x has 4\.5 h of audio; a page holds 4 h"):
        check_embedded("x", 4.5 * 3600)


def test_curves_of_a_run(tmp_path: Path) -> None:
    assert read_curves(tmp_path) == {}
    logger = TensorBoardLogger(tmp_path, name="", version="tensorboard")
    for step in range(1000):
        logger.log_metrics({"train/loss": 1 / (1 + step), **({"dev/loss": 0.5} if step % 500 == 0 else {})}, step)
    logger.save()
    logger.finalize("success")
    events = next((tmp_path / "tensorboard").glob("events*"))
    events.write_bytes(events.read_bytes() + b"\x10\x00")  # of a run that was killed while it wrote
    curves = read_curves(tmp_path)
    assert curves["loss"]["dev"] == [(0, 0.5), (500, 0.5)]
    assert curves["loss"]["train"][-1] == (999, 0.001)
    assert 300 < len(curves["loss"]["train"]) <= 400

    rows = ["step,name,value", "1,dev/wer,0.5", "2,dev/wer,0.4", "2,dev/wer,0.3", "3,dev/wer,nan", "x", "1,train/lr,0.1"]
    rows += ["1,gradient_norm/head,2", "2,gradient_norm/head,3"]
    (tmp_path / "metrics.csv").write_text("\n".join(rows) + "\n")
    gradients = {"head": [(1, 2.0), (2, 3.0)]}
    assert read_curves(tmp_path) == {"WER": {"dev": [(1, 0.5), (2, 0.3)]}, "norm of the gradient": gradients}


@pytest.mark.parametrize("size", [0, 11, 40, 200])
def test_events_that_are_none_are_passed_over(tmp_path: Path, size: int) -> None:
    (tmp_path / "tensorboard").mkdir()
    for seed in range(50):
        content = np.random.default_rng(seed).bytes(size)
        (tmp_path / "tensorboard" / f"events.out.tfevents.{seed}").write_bytes(content[:4] + bytes(4) + content[8:])
    read_curves(tmp_path)


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Chromium")
def test_browser_draws_the_page(tmp_path: Path) -> None:
    said = {f"u{index}": text for index, text in enumerate([*HOSTILE, *["the cat sat"] * 60])}
    wrote = {name: f"so {text} it" for name, text in said.items()}
    attributes = {name: {"speaker": f"s{name[-1]}", "duration_s": 1.0, "snr_db": 3.0} for name in said}
    report_of(said, wrote, said, attributes=attributes).write(tmp_path / "page.html")
    options = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --dump-dom"
    command = ["chromium", *options.split(), f"--user-data-dir={tmp_path / 'profile'}", (tmp_path / "page.html").as_uri()]
    drawn = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert "66 of 66 utterances" in drawn
    assert drawn.count("<tbody data-utterance=") == 25
    assert "&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt;" in drawn
    assert r"\u202eright" in drawn


def test_comparison_without_a_word_to_compare_with(tmp_path: Path) -> None:
    files = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    for file, wrote in zip(files, ("x", ""), strict=True):
        file.write_text("".join(json.dumps({"id": f"u{n}", "reference": "", "hypothesis": wrote}) + "\n" for n in range(3)))
    page, figures = tmp_path / "page.html", tmp_path / "figures.json"
    assert main(["compare", *map(str, files), "--report", str(page), "-o", str(figures)]) == 0
    assert data_of(page)["differences"][0]["rate"] is None
    assert "NaN" not in figures.read_text()
    assert "Infinity" not in figures.read_text()


@pytest.mark.parametrize("audio", ["a\x00b", "\ud800.wav", "/dev/zero", ".", "", "missing.wav"])
@pytest.mark.parametrize(
    "times", [{}, {"start_s": -5, "duration_s": 0}, {"start_s": 1e30, "duration_s": 1e300}, {"duration": "nan"}]
)
def test_odd_sounds_are_named_or_left_out(tmp_path: Path, audio: str, times: dict[str, Any]) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"id": "u", "reference": "a", "hypothesis": "b", "audio": audio, **times}) + "\n")
    assert main(["compare", str(path), "--report", str(tmp_path / "page.html")]) == 0
    assert main(["compare", str(path), "--report", str(tmp_path / "page.html"), "--embed-audio"]) == 3
