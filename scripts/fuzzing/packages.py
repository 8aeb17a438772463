"""Model packages as a stranger may have made them: damaged, forged, or of what is no file."""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import os
import shutil
import struct
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from conftest import SAMPLE_RATE, spoken, write_nonsense_package
from tiny_lstm import write_tiny_lstm

from fuzzing.audio import MUTATIONS as BYTES
from fuzzing.kind import Mutant
from fuzzing.watched import Handle, Silent

Mutate = Callable[[Path, np.random.Generator], None]

WORDS = tuple(["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"])
NGRAMS = Path(__file__).resolve().parents[2] / "tests" / "ngrams"
FORMATS = ("trie", "quantised", "probing", "arpa")
GROUPS = ("plain", *FORMATS, "lstm")
_LANGUAGE = "language/ngram"


class Fuzzed:
    """Packages of a small network of random weights, most with a language model and a lexicon.

    A mutant is loaded as ``asr transcribe`` does it, and transcribes two seconds.
    """

    number = 200
    limit_s = 10.0

    def __init__(self, scratch: Path) -> None:
        self.folder = scratch / "originals"
        for group in GROUPS:
            write_original(self.folder / group, group)

    def load(self) -> Handle:
        import torch

        import asr

        torch.set_num_threads(1)
        warnings.simplefilter("ignore")
        waveform = 0.5 * spoken(2.0)

        def read(package: Path) -> tuple[str, list[float]]:
            found = asr.load_model(package, words=True).transcribe(waveform, SAMPLE_RATE)
            return found.text, [word.confidence for segment in found.segments for word in segment.words or ()]

        expected = {group: read(self.folder / group) for group in GROUPS}

        def handle(package: Path) -> None:
            _, group, mutation = package.name.split("--")
            found = read(package)
            if mutation == "none" and found != expected[group]:
                raise Silent(f"{found}, not {expected[group]}")
            if not all(0 <= confidence <= 1 for confidence in found[1]):
                raise Silent(f"a confidence that is none: {found[1]}")

        return handle

    def mutant(self, index: int, seed: int, folder: Path) -> Mutant:
        rng = np.random.default_rng([seed, index])
        group = GROUPS[index % len(GROUPS)]
        mutation = str(rng.choice(list(MUTATIONS)))
        package = folder / f"{seed}-{index:05}--{group}--{mutation.replace(' ', '-')}"
        shutil.copytree(self.folder / group, package)
        MUTATIONS[mutation](package, rng)
        if rng.random() < 0.8:
            _sign(package)
        return Mutant(package, group, mutation)


def write_original(folder: Path, group: str) -> None:
    """Write a package whose decoder needs what the group's name says."""
    write_nonsense_package(folder)
    settings: dict[str, Any] = {"kind": "beam_ngram", "lm": _LANGUAGE, "lexicon_file": "language/lexicon.tsv", "beam": 20}
    if group == "plain":
        settings = {"kind": "beam", "beam": 20}
    if group == "lstm":
        settings |= {"kind": "rescore", "lstm": "language/lstm", "lm": None, "rescore_n": 5}
    if group != "plain":
        (folder / "language").mkdir()
        lines = [f"{word}\t{' '.join(word)}\n" for word in WORDS]
        (folder / "language" / "lexicon.tsv").write_text("".join(lines))
    if group == "lstm":
        from asr.text import load_tokenizer

        write_tiny_lstm(folder / "language" / "lstm", load_tokenizer(folder).form, WORDS)
    elif group in FORMATS:
        _write_ngram(folder / _LANGUAGE, group)
    _edit(folder / "config.yaml", lambda config: config["decoding"].update(settings))


def _write_ngram(folder: Path, format: str) -> None:
    from asr.language.package import write_config
    from asr.language.vocabulary import Vocabulary
    from asr.text import Normaliser

    folder.mkdir()
    file = folder / ("ngram.arpa" if format == "arpa" else "ngram.bin")
    if format == "arpa":
        names = ["<unk>", "<s>", "</s>", *WORDS]
        unigrams = [f"{-1 - 0.01 * index:.2f}\t{name}\t-0.3" for index, name in enumerate(names)]
        bigrams = [f"-0.5\t{first} {second}" for first, second in pairwise(WORDS)]
        head = f"\\data\\\nngram 1={len(unigrams)}\nngram 2={len(bigrams)}\n"
        body = ["", "\\1-grams:", *unigrams, "", "\\2-grams:", *bigrams, "", "\\end\\", ""]
        file.write_text(head + "\n".join(body))
    else:
        shutil.copy(NGRAMS / f"{format}.bin", file)
    Vocabulary(WORDS, tuple(range(len(WORDS), 0, -1))).save(folder)
    form = Normaliser(" 'abcdefghijklmnopqrstuvwxyz")
    write_config(folder, file, kind="ngram", unit="word", form=form, model={"order": 3}, training={})


def _sign(package: Path) -> None:
    """Give language models the hash of what they are now, as whoever forged them would."""
    configs = [path for path in (package / "language").glob("*/config.yaml") if _is_small(path)]
    for config in configs:
        for file in config.parent.iterdir():
            if _is_small(file) and file.name.startswith(("ngram.", "model.")):
                digest = hashlib.sha256(file.read_bytes()).hexdigest()
                lines = config.read_bytes().split(b"\n")
                config.write_bytes(
                    b"\n".join(b"sha256: " + digest.encode() if line.startswith(b"sha256:") else line for line in lines)
                )


def _is_small(path: Path) -> bool:
    return path.is_file() and path.stat().st_size < 1 << 24


def _files(package: Path) -> list[Path]:
    return sorted(path for path in package.rglob("*") if path.is_file())


def _choose(package: Path, rng: np.random.Generator, *endings: str) -> Path:
    """Draw one of the files with such endings; language models are drawn as often as all others."""
    files = [path for path in _files(package) if not endings or path.name.endswith(endings)]
    models = [path for path in files if path.name.startswith("ngram.")]
    return models[0] if models and rng.random() < 0.5 else files[rng.integers(len(files))]


def _damaged(package: Path, rng: np.random.Generator) -> None:
    """Damage one file or two as any file is damaged."""
    for _ in range(rng.integers(1, 3)):
        path = _choose(package, rng)
        mutation = str(rng.choice([name for name in BYTES if name not in ("none", "ending", "joined")]))
        path.write_bytes(BYTES[mutation](path.read_bytes(), rng))


def _one_byte(package: Path, rng: np.random.Generator) -> None:
    path = _choose(package, rng)
    content = bytearray(path.read_bytes())
    content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
    path.write_bytes(content)


def _forged(package: Path, rng: np.random.Generator) -> None:
    """Let numbers in a language model, or the weights, lie."""
    path = _choose(package, rng, ".bin", ".safetensors")
    content = bytearray(path.read_bytes())
    for _ in range(2 ** rng.integers(6)):
        place = int(rng.integers(80, len(content) - 8))
        content[place : place + 8] = (bytes(8), b"\xff" * 8, rng.bytes(8), rng.bytes(1) + bytes(7))[rng.integers(4)]
    path.write_bytes(content)


_VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 1, 2**31, 2**64, 1e308, -1e308, math.nan, math.inf, 1e-320, ""),
    *("x", "x" * 10**5, "../../etc/passwd", "/dev/zero", "/etc/passwd", ".", "language", "\0", "ü\n", "${oc.env:HOME}"),
    *([], {}, [[]], {"a": {"b": {"c": 1}}}, [1] * 3000, [None], ["a", 1]),
)


def _leaves(node: Any) -> Iterator[tuple[Any, Any]]:
    for key in node if isinstance(node, dict) else range(len(node)):
        yield node, key
        if isinstance(node[key], dict | list):
            yield from _leaves(node[key])


def _value(package: Path, rng: np.random.Generator) -> None:
    """Put up to three values that cannot be, or barely, into a configuration."""
    path = _choose(package, rng, ".yaml", "tokenizer.json")
    reader, writer = (json.loads, json.dumps) if path.suffix == ".json" else (yaml.safe_load, yaml.safe_dump)
    mapping = reader(path.read_text())
    for _ in range(rng.integers(1, 4)):
        places = list(_leaves(mapping))
        node, key = places[rng.integers(len(places))]
        if rng.random() < 0.1:
            del node[key]
        else:
            node[key] = _VALUES[rng.integers(len(_VALUES))]
    path.write_text(writer(mapping))


def _extreme(package: Path, rng: np.random.Generator) -> None:
    """Set a number of the configuration to the least or the most that is permitted."""
    from asr.config import options

    inside = ("frontend.", "model.", "decoding.", "tokens.")
    ranges = [(key, entry.field.metadata) for key, entry in options().items() if key.startswith(inside)]
    ends = [(key, found[end]) for key, found in ranges for end in ("low", "high") if found[end] is not None]
    key, value = ends[rng.integers(len(ends))]
    *sections, leaf = key.split(".")

    def change(config: Any) -> None:
        for section in sections:
            config = config[section]
        old = config[leaf]
        config[leaf] = [type(item)(value) for item in old] if isinstance(old, list) else value

    _edit(package / "config.yaml", change)


_BOMBS = (
    "a: &a [x,x,x,x]\n" + "".join(f"{chr(98 + n)}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 9)}]\n" for n in range(9)),
    "[" * 100_000,
    "{a: " * 50_000,
    "- " * 100_000,
    "a: !!python/object/apply:os.system ['true']\n",
    "a: " + ":".join(["59"] * 80_000),
    "a: " + "9" * 200_000,
    "- 1\n" * 60_000,
    '"' + "\\ud800" * 1000 + '": 1',
)


def _bomb(package: Path, rng: np.random.Generator) -> None:
    """Put what takes much time or memory to read into a configuration."""
    path = _choose(package, rng, ".yaml", "tokenizer.json")
    bomb = _BOMBS[rng.integers(len(_BOMBS))]
    path.write_text(bomb if rng.random() < 0.5 else path.read_text() + bomb)


def _no_file(package: Path, rng: np.random.Generator) -> None:
    """Put a link, a pipe, a folder or a file of 200 GB without contents in a file's place."""
    path = _choose(package, rng)
    path.unlink()
    match rng.integers(8):
        case 0 | 1 | 2 | 3 as target:
            path.symlink_to(("/dev/zero", "/etc/passwd", "/", path.name)[target])
        case 4:
            os.mkfifo(path)
        case 5:
            path.mkdir()
        case 6:
            path.symlink_to(f"../{package.name}/config.yaml")
        case _:
            with open(path, "wb") as stream:
                stream.truncate(200 << 30)


def _large(package: Path, rng: np.random.Generator) -> None:
    """Make a list of words endless, or a line of it."""
    path = _choose(package, rng, ".tsv", ".txt", ".md", ".json", ".arpa")
    match rng.integers(4):
        case 0:
            path.write_bytes(b"one\to n e\n" * 10**7)
        case 1:
            path.write_bytes(b"one\t" + b"o " * (40 << 20) + b"\n")
        case 2:
            path.write_bytes(b"\n" * (80 << 20))
        case _:
            path.write_text("".join(f"a{number:x}\t{number}\n" for number in range(10**6)))


def _unpacked(package: Path, rng: np.random.Generator) -> None:
    """Name a small file for a language model that is huge once it is unpacked."""
    (package / "language").mkdir(exist_ok=True)
    (package / "language" / "ngram.arpa.gz").write_bytes(_packed(int(rng.integers(3))))
    settings = {"kind": "beam_ngram", "lm": "language/ngram.arpa.gz"}
    _edit(package / "config.yaml", lambda config: config["decoding"].update(settings))


@cache
def _packed(kind: int) -> bytes:
    head = b"\\data\\\nngram 1=20000000\nngram 2=20000000\n\n\\1-grams:\n"
    block = (bytes(1 << 20), b"\n" * (1 << 20), b"-1.5\tone\t-0.3\n" * 70_000)[kind]
    packed = gzip.compress(block, 1)
    return gzip.compress(head) + packed * 1000


def _tensors(package: Path, rng: np.random.Generator) -> None:
    """Describe many tensors, one that is not there, or more than a file can have."""
    path = _choose(package, rng, ".safetensors")
    content = path.read_bytes()
    (n_bytes,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + n_bytes])
    empty = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    match rng.integers(4):
        case 0:
            header |= {f"t{index}": empty for index in range(500_000)}
        case 1:
            header |= {f"t{index}": empty for index in range(3000)}
        case 2:
            name = list(header)[rng.integers(len(header))]
            header[name] = header[name] | {"shape": [2**40, 2**20]} if "shape" in header[name] else empty
        case _:
            name = list(header)[rng.integers(len(header))]
            header[name] = header[name] | {"data_offsets": [0, 2**63 - 1]}
    packed = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(packed)) + packed + content[8 + n_bytes :])


def _swapped(package: Path, rng: np.random.Generator) -> None:
    """Exchange two files."""
    files = _files(package)
    first, second = (files[index] for index in rng.choice(len(files), 2, replace=False))
    contents = first.read_bytes(), second.read_bytes()
    first.write_bytes(contents[1])
    second.write_bytes(contents[0])


def _edit(path: Path, change: Callable[[Any], object]) -> None:
    mapping = yaml.safe_load(path.read_text(encoding="utf-8"))
    change(mapping)
    path.write_text(yaml.safe_dump(mapping), encoding="utf-8")


MUTATIONS: dict[str, Mutate] = {
    "none": lambda package, rng: None,
    "damaged": _damaged,
    "one byte": _one_byte,
    "forged": _forged,
    "forged again": _forged,
    "value": _value,
    "another value": _value,
    "extreme": _extreme,
    "bomb": _bomb,
    "no file": _no_file,
    "large": _large,
    "unpacked": _unpacked,
    "tensors": _tensors,
    "swapped": _swapped,
}
