"""``asr inspect``: what is shown is what the model computed, the page stands alone, mistakes are told."""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from conftest import tone

from asr.cli import main
from asr.config import DecodingConfig, FrontendConfig
from asr.decoding import build_decoder
from asr.decoding.words.confidence import Calibration
from asr.features import Frontend
from asr.inspection.page import build_page
from asr.inspection.sound import FLOOR_DBFS, listen, mel_edges
from asr.inspection.trace import Trace, trace
from asr.package.load import read_package
from asr.pictures.page import frequency_ticks

CELLS = ("rnn", "lstm", "gru", "peephole_lstm", "coupled_lstm", "window_mlp", "none")


def traced(package: Path, waveform: np.ndarray) -> tuple[Trace, Any]:
    loaded = read_package(package)
    decoder = build_decoder(DecodingConfig(), loaded.tokenizer)
    return trace(loaded.model, decoder, waveform, Calibration()), loaded


def content_of(page: str) -> dict[str, Any]:
    match = re.search(r"^const data = (.*);$", page, re.MULTILINE)
    assert match is not None
    content: dict[str, Any] = json.loads(match[1])
    return content


def matrix(heatmap: dict[str, Any]) -> np.ndarray:
    values = np.frombuffer(base64.b64decode(heatmap["data"]), dtype=np.uint8).reshape(heatmap["rows"], heatmap["frames"]).T
    result: np.ndarray = heatmap["low"] + values / 255 * (heatmap["high"] - heatmap["low"])
    return result


def test_the_trace_is_what_the_model_computes(package: Path) -> None:
    waveform = tone(0.9)
    found, loaded = traced(package, waveform)
    model = loaded.model
    with torch.inference_mode():
        log_probs, n_out = model(torch.from_numpy(waveform)[None], torch.tensor([len(waveform)]))
        features, n_frames = model.features(torch.from_numpy(waveform)[None], torch.tensor([len(waveform)]))
        hidden, _ = model.acoustic.hidden(features, n_frames)
    np.testing.assert_array_equal(found.log_probs, log_probs[0, : n_out[0]].numpy())
    np.testing.assert_array_equal(found.features, features[0, : n_frames[0]].numpy())
    assert [layer.shape[0] for layer in found.maps] == loaded.config.model.cnn.channels
    last = found.maps[-1].transpose(1, 0, 2).reshape(found.maps[-1].shape[1], -1)
    np.testing.assert_array_equal(last, model.acoustic.cnn(features, n_frames)[0][0].detach().numpy())
    recurrent = loaded.config.model.recurrent
    assert len(found.cells) == recurrent.layers * (2 if recurrent.bidirectional else 1)
    for cell in found.cells:  # what the layer made of the cells' outputs is what the network went on with
        assert all(values.shape == (n_out[0], recurrent.hidden_size) for values in cell.values.values())
    top = [cell.values["h"] for cell in found.cells if cell.layer == recurrent.layers]
    finished = model.acoustic.recurrent.layers[-1].finish(torch.from_numpy(np.concatenate(top, axis=1))[None], n_out)
    torch.testing.assert_close(finished[0].detach(), hidden[-1][0], rtol=0, atol=1e-5)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_the_page_holds_the_trace_and_nothing_from_elsewhere(package: Path) -> None:
    found, _ = traced(package, tone(0.9))
    page = build_page(found, None, title="</script><b>x", subtitle="<!--", units=[3, 1], n_maps=2)
    assert "</script><b>" not in page
    assert "<!--" not in page
    assert not re.search(r"(src|href)=|https?://|@import|url\(", page)
    content = content_of(page)
    assert content["title"] == "</script><b>x"
    np.testing.assert_allclose(matrix(content["posteriors"])[:, 0], np.exp(found.log_probs[:, 0]), atol=0.003)
    for shown, cell in zip(content["cells"], found.cells, strict=True):
        for one in shown["traces"]:
            expected = cell.values[one["letter"]][:, [3, 1]]
            np.testing.assert_allclose(
                matrix(one), np.clip(expected, one["low"], one["high"]), atol=(one["high"] - one["low"]) / 250
            )
    assert [len(layer["maps"]) for layer in content["maps"]] == [2] * len(found.maps)
    assert base64.b64decode(content["audio"])[:4] == b"RIFF"


@pytest.mark.parametrize("cell", CELLS)
def test_every_cell_can_be_looked_at(cell: str, package_of: Any) -> None:
    found, loaded = traced(package_of(cell), tone(0.5))
    assert (not found.cells) == (cell in ("window_mlp", "none"))
    units = range(min(4, loaded.config.model.recurrent.hidden_size))
    content = content_of(build_page(found, None, title="", subtitle="", units=units, n_maps=1))
    assert len(content["cells"]) == len(found.cells)


@pytest.mark.filterwarnings("error")
def test_a_sine_is_heard() -> None:
    waveform = (0.5 * np.sin(2 * np.pi * 250 * np.arange(16000) / 16000)).astype(np.float32)  # 250 Hz is that of bin 8 of 512
    sound = listen(waveform, 16000)
    assert sound.level_dbfs[5:-5] == pytest.approx(20 * np.log10(0.5), abs=0.15)  # 6.25 periods
    assert sound.spectrogram.shape == (101, 257)
    assert sound.spectrogram[5:-5].argmax(axis=1) * sound.bin_hz == pytest.approx(250)
    assert sound.spectrogram[5:-5].max(axis=1) == pytest.approx(20 * np.log10(0.5), abs=0.05)
    assert sound.pitch_hz[3:-3] == pytest.approx(250, rel=0.01)
    assert sound.pitch_s * (len(sound.pitch_hz) - 1) == pytest.approx(1.0)


def test_hum_in_a_pause_is_no_voice() -> None:
    time_s = np.arange(16000) / 16000
    waveform = np.where(time_s < 0.5, 0.3 * np.sin(2 * np.pi * 150 * time_s), 0.001 * np.sin(2 * np.pi * 70 * time_s))
    pitch_hz = listen(waveform.astype(np.float32), 16000).pitch_hz
    assert pitch_hz[3:22] == pytest.approx(150, rel=0.01)
    assert np.isnan(pitch_hz[28:]).all()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("rate", [4000, 8000, 16000, 22050, 48000])
@pytest.mark.parametrize("n_samples", [1, 100, 4000])
def test_silence_of_any_length_has_a_level_and_no_pitch(n_samples: int, rate: int) -> None:
    sound = listen(np.zeros(n_samples, dtype=np.float32), rate)
    assert len(sound.level_dbfs) == len(sound.spectrogram) == n_samples // round(0.01 * rate) + 1
    assert (sound.level_dbfs == FLOOR_DBFS).all()
    assert np.isnan(sound.pitch_hz).all()


def test_mel_frequencies_are_those_of_the_features() -> None:
    config = FrontendConfig(n_mels=40, f_min_hz=100, f_max_hz=6000)
    edges, filters = mel_edges(config), Frontend(config).get_buffer("transform.mel_scale.fb").numpy()
    frequencies = np.linspace(0, 8000, len(filters))
    for band in range(40):
        inside = frequencies[filters[:, band] > 1e-9]
        assert edges[band] <= inside.min() <= inside.max() <= edges[band + 2]


def test_ticks_of_frequencies() -> None:
    linear = frequency_ticks(np.arange(-1, 9) * 1000.0)  # eight rows, 0 to 7000 Hz
    assert linear == [((row + 0.5) / 8, f"{1000 * row}") for row in (0, 1, 2, 3, 4, 6)] + [(1.0, "8000")]
    octaves = frequency_ticks(250.0 * 2 ** np.arange(7))  # five rows, 500 to 8000 Hz
    assert octaves[:3] == [(0.1, "500"), (0.3, "1000"), (0.5, "2000")]


@pytest.mark.parametrize(
    ("kind", "n_rows", "axis", "first"),
    [
        ("log_mel", 80, "mel frequency (Hz)", "100"),
        ("spectrogram", 201, "frequency (Hz)", "0"),
        ("mfcc", 40, "coefficient", "0"),
    ],
)
def test_features_have_an_axis(kind: str, n_rows: int, axis: str, first: str, package: Path) -> None:
    found, _ = traced(package, tone(0.5))
    found = dataclasses.replace(found, frontend=FrontendConfig(kind=kind), features=np.zeros((51, n_rows)))
    content = content_of(build_page(found, listen(found.waveform, 16000), title="", subtitle="", units=[0], n_maps=1))
    features = content["features"]
    assert (features["axis"], features["ticks"][0][1]) == (axis, first)
    assert all(0 <= share <= 1 for share, _ in features["ticks"])
    assert len(features["hz"]) == (0 if kind == "mfcc" else n_rows)
    pitch = content["sound"]["pitch"]
    assert len(pitch["values"]) == 26
    assert all(value is None or pitch["low"] < value < pitch["high"] for value in pitch["values"])


class NowhereToCompile(ModuleType):
    """librosa, where nothing can be written; its functions are loaded on demand."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("cannot cache function '__o_fold': no locator available")


@pytest.mark.parametrize(
    ("module", "notice"),
    [
        (None, 'left out: import of librosa halted; None in sys.modules: pip install "librosa>=0.11"'),
        (NowhereToCompile("librosa"), "no locator available: set NUMBA_CACHE_DIR to a folder that may be written to"),
    ],
)
def test_where_librosa_cannot_be_loaded_the_rest_is_shown(
    module: ModuleType | None,
    notice: str,
    package: Path,
    tone_wav: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "librosa", module)
    page = tmp_path / "page.html"
    assert main(["inspect", str(tone_wav), "--model", str(package), "-o", str(page)]) == 0
    assert notice in capsys.readouterr().err
    content = content_of(page.read_text(encoding="utf-8"))
    assert content["sound"] is None
    assert content["features"]["ticks"] == []
    assert content["posteriors"]["frames"] > 0


def test_command(package: Path, tone_wav: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.html"
    command = ["inspect", str(tone_wav), "--model", str(package), "-o", str(page)]
    assert main([*command, "--units", "0-2,1,5", "--end", "0.3", "--decoding", "kind=beam"]) == 0
    assert str(page) in capsys.readouterr().out
    content = content_of(page.read_text(encoding="utf-8"))
    assert content["duration"] == pytest.approx(0.3)
    assert content["cells"][0]["units"] == [0, 1, 2, 5]
    assert "decoder beam:" in content["subtitle"]
    assert content["sound"]["level"]["unit"] == "dBFS"


def test_what_should_be_known_of_the_sound(package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for samples, notice in ((np.zeros((4000, 2)), "digital silence"), (np.outer(tone(), [1, -1]), "cancel each other")):
        soundfile.write(tmp_path / "a.wav", samples, 16000)
        assert main(["inspect", str(tmp_path / "a.wav"), "--model", str(package), "-o", str(tmp_path / "page.html")]) == 0
        captured = capsys.readouterr()
        assert notice in captured.err
        assert captured.out.splitlines()[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--start", "2", "--end", "1"], "0 <= start < end"),
        (["--start", "-1"], "0 <= start < end"),
        (["--end", "inf"], "0 <= start < end"),
        (["--start", "1000"], "holds no audio samples from 1000 s on"),
        (["--end", "0.00001"], "holds no audio samples"),
        (["--units", "0-9999"], "is not within 0-"),
        (["--units", "a"], "neither a unit nor a range"),
        (["--maps", "0"], "--maps 0"),
        (["--decoding", "kind=gredy"], "Did you mean greedy"),
        (["-o", "tone.wav"], "would overwrite the audio"),
        (["-o", "link.wav"], "would overwrite the audio"),
        (["-o", "."], "is a folder"),
        (["-o", "tone.wav/page.html"], "is not a folder"),
        (["-o", "/dev/null"], "no plain file"),
        (["-o", f"{'x' * 300}.html"], "File name too long"),
        (["--model", "absent"], "absent"),
    ],
)
def test_mistakes_are_told(
    arguments: list[str],
    words: str,
    package: Path,
    tone_wav: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tone_wav.parent)
    Path("link.wav").symlink_to("tone.wav")
    assert main(["inspect", tone_wav.name, "--model", str(package), *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("asr inspect: error: ")
    assert words in error
    assert not list(tone_wav.parent.glob("*.html"))


def test_a_name_that_is_no_text(package: Path, tone_wav: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tone_wav.parent)
    name = os.fsdecode(b"<bad\xff>")
    tone_wav.rename(f"{name}.wav")
    assert main(["inspect", "--model", str(package), "--", f"{name}.wav"]) == 0
    page = Path(f"{name}.html").read_text(encoding="utf-8")
    assert "<bad" not in page
    assert "bad\ufffd" in page
