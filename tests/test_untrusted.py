"""Files that a stranger may have written: what is refused, and that it takes neither time nor memory."""

from __future__ import annotations

import gzip
import json
import os
import resource
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import write_nonsense_package

from asr.cli import main
from asr.decoding.builders.hot_words import read_hot_words
from asr.errors import AudioError, ConfigError, DataError, PackageError
from asr.language.texts import find_sources, read_text
from asr.package.load import read_package
from asr.package.save import compress_package
from asr.package.shipped import find_model
from asr.text import Lexicon, load_tokenizer
from asr.transcription import sources
from asr.untrusted import MAX_LINES, check_name, read_json, read_lines, read_yaml


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nb: [x, 2.5, null, true]\n", {"a": 1, "b": ["x", 2.5, None, True]}),
        ("day: 2024-01-02\n", {"day": "2024-01-02"}),
        ("", None),
        ("a: &x [1]\nb: *x\n", "an alias"),
        ("a: " + "[" * 40 + "]" * 40, "more than 32 levels"),
        ("[" + "1," * 40000 + "]", "16,384 values"),
        ("a: 1\na: 2\n", "there twice"),
        ("a: !!python/object/apply:os.system [x]\n", "of the type"),
        ("a: !!binary aGk=\n", "of the type"),
        ("a: !!set {x}\n", "of the type"),
        ("a: !!bool maybe\n", "not readable"),
        ("a: !!float ''\n", "not readable"),
        ("a: " + ":".join(["1"] + ["59"] * 80000), "a number of"),
        ('a: "\\ud800"\n', "surrogate"),
        ("a: 'x", "not readable"),
        ("x" * (1 << 19), "524,288 bytes; expected 262,144 at most"),
    ],
)
def test_yaml(text: str, expected: Any, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    if isinstance(expected, str):
        with pytest.raises(PackageError, match=expected) as caught:
            read_yaml(path)
        assert str(path) in str(caught.value)
        assert len(str(caught.value)) < 500
    else:
        assert read_yaml(path) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a": NaN}', "NaN"),
        ('{"a": 1, "a": 2}', "twice"),
        ('"\\ud800"', "surrogate"),
        ("[" * 1_000_000, "recursion"),
        ("[" * 50 + "]" * 50, "32 levels"),
        ("1" * 100_000, "limit"),
        ("\xff", "not readable"),
    ],
)
def test_json(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(text)
    with pytest.raises(PackageError, match=words):
        read_json(path, 1 << 23)
    path.write_text('{"a": [1, "ü", null]}')
    assert read_json(path, 1 << 23) == {"a": [1, "ü", None]}


@pytest.mark.parametrize("name", ["", "/dev/zero", "../x", "language/../../x", "a\\b", "a\0b"])
def test_paths_out_of_a_package(name: str, tmp_path: Path) -> None:
    check_name(tmp_path, "decoding.lm", "language/ngram")
    with pytest.raises(PackageError, match=r"decoding\.lm"):
        check_name(tmp_path, "decoding.lm", name)


def test_lists_of_words(tmp_path: Path) -> None:
    path = tmp_path / "words"
    for content, words in (
        (b"a\n" * (MAX_LINES + 1), "1,048,577 lines; expected 1,048,576"),
        (b"a\n" + b"x" * 5000, "line 2: 5,000 characters"),
        (b"a\n\xff", "not UTF-8"),
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match=words):
            read_lines(path, DataError)
    with open(path, "wb") as stream:
        stream.truncate(200 << 30)
    with pytest.raises(DataError, match="expected 67,108,864 at most"):
        read_lines(path, DataError)
    path.write_bytes("\ufeffä\nb".encode())
    assert read_lines(path) == ["ä", "b"]


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return write_nonsense_package(tmp_path / "package")


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    mapping = yaml.safe_load(path.read_text())
    change(mapping)
    path.write_text(yaml.safe_dump(mapping))


def many_tensors(package: Path) -> None:
    entries = {f"t{index}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for index in range(20_000)}
    header = json.dumps(entries).encode()
    (package / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)


def replaced(name: str, make: Callable[[Path], object]) -> Callable[[Path], object]:
    def damage(package: Path) -> None:
        (package / name).unlink(missing_ok=True)
        (package / name).parent.mkdir(exist_ok=True)
        make(package / name)

    return damage


def sparse(path: Path) -> None:
    with open(path, "wb") as stream:
        stream.truncate(200 << 30)


def decoding(**settings: Any) -> Callable[[Path], object]:
    return lambda package: edit(package / "config.yaml", lambda m: m["decoding"].update(settings))


def both(*damages: Callable[[Path], object]) -> Callable[[Path], object]:
    return lambda package: [damage(package) for damage in damages]


HOSTILE: dict[str, tuple[Callable[[Path], object], str]] = {
    "device as lexicon": (decoding(lexicon_file="/dev/zero", kind="beam"), r"lexicon_file is '/dev/zero'"),
    "system file as lexicon": (decoding(lexicon_file="/etc/passwd"), r"inside the package"),
    "language model above": (decoding(lm="../../other"), r"lm is '\.\./\.\./other'"),
    "language model beside": (decoding(lm="asr"), r"lm is 'asr', but .* is not there"),
    "lexicon is a link": (
        both(replaced("lex", lambda path: path.symlink_to("/etc/passwd")), decoding(lexicon_file="lex")),
        "lex: a link that leads out of the package, to /etc/passwd; refused",
    ),
    "language model behind a link": (
        both(replaced("x", lambda path: path.symlink_to(path.parent.parent)), decoding(lm="x/ngram", kind="beam_ngram")),
        "x: a link that leads out of the package|lm is 'x/ngram', but .* is not there",
    ),
    "language model is a link": (
        both(replaced("x/ngram", lambda path: path.symlink_to("/usr")), decoding(lm="x/ngram", kind="beam_ngram")),
        "x/ngram: a link that leads out of the package, to /usr; refused",
    ),
    "list in a list": (
        lambda package: edit(package / "config.yaml", lambda m: m["model"]["cnn"].update(channels=[[]])),
        r"model\.cnn\.channels=.*: expected a plain list",
    ),
    "nothing in a list": (
        lambda package: edit(package / "config.yaml", lambda m: m["model"]["cnn"].update(channels=[None])),
        r"model\.cnn\.channels",
    ),
    "large maps": (
        lambda package: edit(
            package / "config.yaml",
            lambda m: (
                m["frontend"].update(hop_s=0.001),
                m["model"]["cnn"].update(
                    channels=[2048], time_kernels=[1], frequency_kernels=[1], time_strides=[1], frequency_strides=[1]
                ),
            ),
        ),
        "model.cnn: layer 1 makes .* numbers of a second of audio",
    ),
    "card is a link": (replaced("README.md", lambda path: path.symlink_to("/etc/passwd")), "a link that leads out"),
    "pipe in a folder": (replaced("language/pipe", os.mkfifo), "a pipe; expected a file or folder"),
    "pipe as card": (replaced("README.md", os.mkfifo), "a pipe; expected a file or folder"),
    "pipe as weights": (replaced("model.safetensors", os.mkfifo), r"model\.safetensors not found"),
    "link to a device": (replaced("language/x", lambda path: path.symlink_to("/dev/zero")), "leads out of the package"),
    "sparse weights": (replaced("model.safetensors", sparse), "214,748,364,800 bytes"),
    "sparse tokenizer": (replaced("tokenizer.json", sparse), "214,748,364,800 bytes"),
    "many tensors": (many_tensors, "a header of [0-9,]+ bytes; expected 1,048,576 at most"),
    "long format": (lambda package: edit(package / "config.yaml", lambda m: m.update(format="x" * 10**5)), "format 'x+, but"),
    "priors of other tokens": (decoding(prior_weight=1.0, priors=[-1.0]), r"config\.yaml: decoding\.priors has 1 values, but"),
    "nested": (lambda package: (package / "tokenizer.json").write_text("[" * 10**6), "not readable as JSON"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_packages(kind: str, package: Path) -> None:
    damage, words = HOSTILE[kind]
    damage(package)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    with pytest.raises(PackageError, match=words) as caught:
        read_package(package)
    assert len(str(caught.value)) < 1000
    assert time.perf_counter() - start < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kilobytes


def test_a_package_does_not_say_how_many_processes_decode(package: Path) -> None:
    decoding(kind="beam", jobs=1024)(package)
    assert read_package(package).config.decoding.jobs <= (os.cpu_count() or 1)


def test_copies_leave_out_what_is_no_file(package: Path, tmp_path: Path) -> None:
    os.mkfifo(package / "other")
    copy = compress_package(package, tmp_path / "copy", "int8")
    assert sorted(path.name for path in copy.iterdir()) == ["README.md", "config.yaml", "model.safetensors", "tokenizer.json"]


def test_no_line_of_a_text_is_endless(tmp_path: Path) -> None:
    path = tmp_path / "text.gz"
    path.write_bytes(gzip.compress(b"a line\n" + bytes((1 << 24) + 1)))
    [source] = find_sources([str(path)], tmp_path)
    found = read_text(source)
    assert next(found) == "a line\n"
    with pytest.raises(DataError, match=r"text\.gz, line 2: more than 16,777,216 characters"):
        next(found)


def test_standard_input_has_an_end(package: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sources, "MAX_STDIN_BYTES", 1 << 22)
    with open("/dev/zero") as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        opened = sources.open_source(sources.RecordingFile("-", Path("stdin")))
        assert not isinstance(opened, str)
        with pytest.raises(AudioError, match="stdin: more than 4 MiB"):
            opened.read()
        assert main(["transcribe", "-", "--model", str(package)]) != 0
    assert "asr transcribe: stdin: more than 4 MiB" in capfd.readouterr().err


def test_hot_words_come_through_a_pipe_that_has_an_end() -> None:
    code = "import sys; from asr.decoding.builders.hot_words import read_hot_words; print(read_hot_words(sys.argv[1]))"
    command = f"{sys.executable} -c '{code}' <(echo lisbon; echo '# no'; echo porto:2)"
    assert subprocess.run(["bash", "-c", command], capture_output=True, text=True).stdout == "['lisbon', 'porto:2']\n"
    with pytest.raises(ConfigError, match="more than 1,048,576 bytes"):
        read_hot_words("/dev/zero")
    assert read_hot_words(f"{'a' * 300},b") == ["a" * 300, "b"]


def test_a_lexicon_is_no_device(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(find_model("english"))
    with pytest.raises(DataError, match="a device; expected a file"):
        Lexicon.load(Path("/dev/zero"), tokenizer)
