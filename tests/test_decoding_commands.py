"""Beam search, language models and hot words through the commands, in Python, and inside model packages."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import tone
from exhaustive import write_arpa
from tiny_lstm import write_tiny_lstm

import asr
from asr.cli import main
from asr.config import DecodingConfig
from asr.decoding import build_decoder
from asr.decoding.waveforms import decode_waveforms
from asr.errors import ConfigError, PackageError
from asr.package.load import read_package, with_decoding
from asr.package.save import write_package


@pytest.fixture
def arpa(tmp_path: Path) -> Path:
    return write_arpa(tmp_path / "words.arpa")


def transcribe(package: Path, wav: Path, *settings: str, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    # decoding.KEY=VALUE, as in the configuration, and options
    arguments = [word for item in settings for word in (["--decoding", item] if item.startswith("decoding.") else [item])]
    assert main(["transcribe", "--model", str(package), *arguments, str(wav)]) == 0
    return capsys.readouterr().out


def test_settings_and_hot_words_of_transcribe(
    package: Path, spoken_wav: Path, arpa: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    free = transcribe(package, spoken_wav, "decoding.kind=beam", capsys=capsys)
    assert free.strip()
    closed = transcribe(package, spoken_wav, "decoding.kind=beam_ngram", f"decoding.lm={arpa}", capsys=capsys)
    assert set(closed.split()) <= {"a", "b", "ab"}
    wide = ["decoding.kind=beam", "decoding.beam=200", "decoding.beam_threshold=200", "decoding.hot_word_score=80"]
    hot = transcribe(package, spoken_wav, *wide, "--hotwords", "fg", capsys=capsys)
    assert "fg" in hot.split()
    assert "fg" not in free.split()


def test_other_readings(package: Path, spoken_wav: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = ["decoding.kind=beam", "decoding.n_best=3"]
    (segment,) = json.loads(transcribe(package, spoken_wav, *settings, "--format=json", capsys=capsys))["segments"]
    assert len({segment["text"], *segment["alternatives"]}) == 3


def test_python(package: Path, spoken_wav: Path) -> None:
    settings = {"kind": "beam", "beam": 200, "beam_threshold": 200.0, "hot_words": ["fg"], "hot_word_score": 80.0}
    assert "fg" in asr.load_model(package, decoding=settings).transcribe(spoken_wav).text.split()
    assert asr.load_model(package).decoder.signature == "greedy"
    with pytest.raises(ConfigError, match=r"Did you mean decoding\.beam"):
        asr.load_model(package, decoding={"beem": 3})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--hotwords", "zebra", "FILE"], "decoding.kind=beam"),
        (["--decoding", "kind=beam_ngram", "FILE"], "decoding.lm"),
        (["--decoding", "kind=beam", "--hotwords", "42", "FILE"], "'42'"),
        (["--decoding", "lm=words.arpa", "FILE"], "decoding.lm: decoding.kind=greedy does not use it"),
        (["--decoding", "kind=beam", "--decoding", "lm_weight=2", "FILE"], "kind to beam_ngram or rescore or fusion"),
        (["--decoding", "kind=fusion", "--decoding", "rescore_lm_scale=0.5", "FILE"], "set decoding.kind to rescore"),
        (["--decoding", "kind=rescore", "--decoding", "rescore_lm_scale=0.5", "FILE"], "there is no n-gram model to weigh"),
        (["--decoding", "kind=beam", "--decoding", "rescore_n=5", "FILE"], "set decoding.kind to rescore"),
        (["--decoding", "kind=beam_ngram", "--decoding", "lstm=x", "FILE"], "decoding.lstm: decoding.kind=beam_ngram does not"),
    ],
)
def test_wrong_arguments(
    arguments: list[str], message: str, package: Path, spoken_wav: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [str(spoken_wav) if item == "FILE" else item for item in arguments]
    assert main(["transcribe", "--model", str(package), *files]) == 2
    assert message in capsys.readouterr().err


def with_language_model(package: Path, arpa: Path, folder: Path) -> Path:
    """The package with a language model that lies elsewhere."""
    loaded = read_package(package)
    lexicon = arpa.with_name("words.tsv")
    lexicon.write_text("a\ta\nb\tb\nab\ta b\n")
    decoding = DecodingConfig(kind="beam_ngram", lm=str(arpa), lexicon_file=str(lexicon))
    config = dataclasses.replace(loaded.config, decoding=decoding)
    return write_package(folder, config, loaded.model, loaded.tokenizer, "card")


def test_language_models_travel_in_the_package(
    package: Path, arpa: Path, spoken_wav: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = with_language_model(package, arpa, tmp_path / "mine" / "package")
    text = transcribe(mine, spoken_wav, capsys=capsys)
    arpa.unlink()
    arpa.with_name("words.tsv").unlink()
    elsewhere = tmp_path / "elsewhere"
    shutil.move(mine.parent, elsewhere)
    loaded = read_package(elsewhere / "package")
    assert (loaded.config.decoding.lm, loaded.config.decoding.lexicon_file) == ("language/ngram.arpa", "language/lexicon.tsv")
    assert transcribe(elsewhere / "package", spoken_wav, capsys=capsys) == text
    # Written once more in the same place, it keeps what it has.
    again = write_package(elsewhere / "package", loaded.config, loaded.model, loaded.tokenizer, "card")
    assert transcribe(again, spoken_wav, capsys=capsys) == text


def test_a_language_model_can_be_put_aside(
    package: Path, arpa: Path, spoken_wav: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = with_language_model(package, arpa, tmp_path / "package")
    assert transcribe(mine, spoken_wav, "decoding.kind=greedy", "decoding.lm=null", capsys=capsys) == transcribe(
        package, spoken_wav, capsys=capsys
    )


def test_links_out_of_the_language_folder(package: Path, arpa: Path, tmp_path: Path) -> None:
    mine = with_language_model(package, arpa, tmp_path / "package")
    (mine / "language" / "ngram.arpa").unlink()
    (mine / "language" / "ngram.arpa").symlink_to(arpa)
    with pytest.raises(PackageError, match=r"ngram\.arpa: a link that leads out"):
        read_package(mine)


def test_a_language_model_that_is_not_there_is_not_packed(package: Path, arpa: Path, tmp_path: Path) -> None:
    loaded = read_package(package)
    config = dataclasses.replace(loaded.config, decoding=DecodingConfig(kind="beam_ngram", lm=str(tmp_path / "nowhere.bin")))
    with pytest.raises(PackageError, match=r"nowhere\.bin"):
        write_package(tmp_path / "package", config, loaded.model, loaded.tokenizer, "card")
    assert not (tmp_path / "package").exists()


def test_words_with_a_language_model(package: Path, arpa: Path, spoken_wav: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Words have times also where a lexicon wrote them."""
    for settings in ([], ["decoding.lexicon=false"], ["decoding.optional_boundary=true"]):
        printed = transcribe(
            package,
            spoken_wav,
            "decoding.kind=beam_ngram",
            f"decoding.lm={arpa}",
            *settings,
            "--format",
            "json",
            "--words",
            capsys=capsys,
        )
        (segment,) = json.loads(printed)["segments"]
        assert [word["text"] for word in segment["words"]] == segment["text"].split()


def text_of_a_tone(package: Path, **settings: Any) -> str:
    loaded = with_decoding(read_package(package), settings)
    decoder = build_decoder(loaded.config.decoding, loaded.tokenizer, package)
    return decode_waveforms(loaded.model, decoder, [tone()])[0].text


@pytest.mark.parametrize("with_ngram", [False, True])
@pytest.mark.parametrize("kind", ["rescore", "fusion"])
def test_lstm_language_models_travel_in_the_package(
    package: Path, arpa: Path, tmp_path: Path, kind: str, with_ngram: bool
) -> None:
    loaded = read_package(package)
    lstm = write_tiny_lstm(tmp_path / "lstm", loaded.tokenizer.form, ("a", "b", "ab"))
    settings: dict[str, Any] = {"kind": kind, "lstm": lstm, "word_score": 20.0, "lm": str(arpa) if with_ngram else None}
    text = text_of_a_tone(package, **settings)
    assert text
    if kind == "fusion" or with_ngram:
        assert set(text.split()) <= {"a", "b", "ab"}
    config = dataclasses.replace(loaded.config, decoding=DecodingConfig(**settings))
    mine = write_package(tmp_path / "mine" / "package", config, loaded.model, loaded.tokenizer, "card")
    shutil.rmtree(lstm)
    arpa.unlink()
    shutil.move(mine.parent, tmp_path / "elsewhere")
    moved = tmp_path / "elsewhere" / "package"
    assert read_package(moved).config.decoding.lstm == "language/lstm"
    assert text_of_a_tone(moved) == text
    with pytest.raises(PackageError, match="nowhere: not found"):
        text_of_a_tone(moved, lstm="nowhere")
