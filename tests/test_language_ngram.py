"""N-gram models: KenLM's files, scores against probabilities worked out by hand, broken files."""

from __future__ import annotations

import gzip
import math
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from asr.errors import PackageError
from asr.language import NgramModel, load_language_model
from asr.language.kenlm import read_header, read_words
from asr.language.model import LanguageModel
from asr.language.ngram import load_kenlm
from asr.language.perplexity import Perplexity, compare, measure, why_incomparable
from asr.language.units import Characters

# Logarithms to the base of 10; the back-offs are in the third column.
ARPA = r"""
\data\
ngram 1=6
ngram 2=6
ngram 3=2

\1-grams:
-1.3	<unk>
0	<s>	-0.3
-0.9	</s>
-1.1	c	-0.1
-0.5	a	-0.2
-0.7	b	-0.25

\2-grams:
-0.4	<s> a	-0.15
-0.6	a b	-0.05
-0.8	b c	0
-0.35	c </s>
-0.45	b </s>
-0.55	a a	-0.02

\3-grams:
-0.2	<s> a b
-0.3	a b c

\end\
"""

BY_HAND = {
    "a b c": -0.4 - 0.2 - 0.3 - 0.35,  # <s> a; <s> a b; a b c; b c </s> backs off to c </s> by b c's 0
    "a b": -0.4 - 0.2 + (-0.05 - 0.45),  # a b </s> backs off to b </s>
    "a a b": -0.4 + (-0.15 - 0.55) + (-0.02 - 0.6) + (-0.05 - 0.45),
    "c": (-0.3 - 1.1) - 0.35,
    "": -0.3 - 0.9,
    "a zzz b": -0.4 + (-0.15 - 0.2 - 1.3) - 0.7 - 0.45,  # nothing begins with <unk>, so b stands by itself
    "zzz": (-0.3 - 1.3) - 0.9,
}


@pytest.fixture
def arpa(tmp_path: Path) -> Path:
    path = tmp_path / "hand.arpa"
    path.write_text(ARPA)
    return path


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_scores_are_those_worked_out_by_hand(arpa: Path, suffix: str) -> None:
    path = arpa.with_name(f"hand.arpa{suffix}")
    path.write_bytes(gzip.compress(arpa.read_bytes()) if suffix else arpa.read_bytes())
    model = load_language_model(path)
    assert isinstance(model, NgramModel)
    assert (model.order, model.unit, model.path) == (3, "word", path)
    assert tuple(model.words) == ("a", "b", "c")  # by their probabilities
    for text, log10 in BY_HAND.items():
        [score] = model.score([text.split()])
        assert score.log_prob == pytest.approx(log10 * math.log(10), abs=1e-5), text
        assert score.n_tokens == score.n_words + 1 == len(text.split()) + 1
    [score] = model.score([["a", "zzz", "b"]])
    assert score.n_unknown == 1
    assert score.unknown_log_prob == pytest.approx((-0.15 - 0.2 - 1.3) * math.log(10), abs=1e-5)


def test_kenlm_says_nothing_by_itself(arpa: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load_kenlm(arpa)
    assert capfd.readouterr() == ("", "")


def test_next_words_are_those_with_the_highest_probability(arpa: Path) -> None:
    model = load_language_model(arpa)
    found = model.next_words(["a"], 2)
    assert [word for word, _ in found] == ["b", "a"]
    assert found[0][1] == pytest.approx(10**-0.2, rel=1e-5)
    assert found[1][1] == pytest.approx(10 ** (-0.15 - 0.55), rel=1e-5)
    log_probs = model.next_log_probs(["a", "b"])
    assert log_probs[model.end] == pytest.approx((-0.05 - 0.45) * math.log(10), rel=1e-5)
    assert log_probs[model.unknown] == pytest.approx((-0.05 - 0.25 - 1.3) * math.log(10), rel=1e-5)
    assert model.name(model.index("c")) == "c"
    assert model.index("zzz") == model.unknown


def test_sampling_is_repeatable_and_follows_the_probabilities(arpa: Path) -> None:
    model = load_language_model(arpa)
    texts = model.sample(200, seed=3)
    assert texts == model.sample(200, seed=3) != model.sample(200, seed=4)
    assert {word for text in texts for word in text.split()} <= {"a", "b", "c"}
    allowed = np.exp(model.next_log_probs([]))[: model.unknown]
    share = sum(text.startswith("a") for text in texts) / len(texts)
    assert share == pytest.approx(allowed[0] / allowed.sum(), abs=0.12)
    for temperature in (1e-3, 1e-300):
        assert set(model.sample(50, temperature=temperature)) == {"a b c"}
    assert all(text.startswith("b c") for text in model.sample(5, history=["b", "c"]))


def character_model(path: Path) -> LanguageModel:
    """Letters a and b with a probability of 0.4 and 0.3, the boundary 0.2, the end 0.1, whatever stands before."""
    rows = {"a": 0.4, "b": 0.3, "|": 0.2, "</s>": 0.1}
    lines = ["\\data\\", "ngram 1=6", "ngram 2=1", "", "\\1-grams:", "-9\t<unk>", "-99\t<s>\t0"]
    lines += [f"{math.log10(p):.6f}\t{unit}\t0" for unit, p in rows.items()]
    lines += ["", "\\2-grams:", f"{math.log10(0.4):.6f}\t<s> a", "", "\\end\\", ""]
    path.write_text("\n".join(lines))
    return NgramModel(path, read_header(path), Characters(), ("a", "b", "|"), None)


def test_words_of_a_character_model(tmp_path: Path) -> None:
    model = character_model(tmp_path / "c.arpa")
    # A word ends at a boundary or with the sentence, 0.3 together; given that, a further word begins with 2/3.
    expected = {"a": 0.4 * 0.3, "b": 0.3 * 0.3, "aa": 0.16 * 0.3, "ab": 0.12 * 0.3, "ba": 0.12 * 0.3, "bb": 0.09 * 0.3}
    at_start, after = (dict(model.next_words(history, 6)) for history in ([], ["ab"]))
    assert at_start == pytest.approx(expected, rel=1e-4)
    assert after == pytest.approx({word: p * 2 / 3 for word, p in expected.items()}, rel=1e-4)
    [score] = model.score([["ab", "a"]])
    assert math.exp(score.log_prob) == pytest.approx(0.4 * 0.3 * 0.2 * 0.4 * 0.1, rel=1e-4)
    assert (score.n_words, score.n_tokens) == (2, 5)
    assert all(set(text) <= set("ab ") for text in model.sample(20))


def test_perplexity_by_hand(arpa: Path) -> None:
    model = load_language_model(arpa)
    result = measure(model, [text.split() for text in BY_HAND])
    total = sum(BY_HAND.values())
    n_predicted = sum(len(text.split()) + 1 for text in BY_HAND)
    assert result.perplexity == pytest.approx(10 ** (-total / n_predicted), rel=1e-5)
    unknown = (-0.15 - 0.2 - 1.3) + (-0.3 - 1.3)
    assert result.known_perplexity == pytest.approx(10 ** (-(total - unknown) / (n_predicted - 2)), rel=1e-5)
    assert result.bits == pytest.approx(math.log2(result.perplexity))
    assert (result.n_unknown, result.n_words) == (2, 13)
    assert result.oov_rate == pytest.approx(2 / 13)
    assert result.facts()["out of vocabulary"] == "2 words (15.38 %)"
    lines = result.summary().splitlines()
    assert lines[1] == f"of known words     {result.known_perplexity:.2f}"
    assert len(lines) == 4


def test_comparison_is_paired(arpa: Path) -> None:
    model = load_language_model(arpa)
    texts = [text.split() for text in BY_HAND] * 5
    first = measure(model, texts)
    assert (compare(first, first).bits, compare(first, first).low, compare(first, first).high) == (0, 0, 0)
    # Every sentence is a bit a word likelier for the second: the difference is that bit, and it is certain.
    bit = math.log(2)
    better = [
        type(score)(score.log_prob + bit * (score.n_words + 1), score.n_words, score.n_tokens, 0, 0.0)
        for score in first.sentences
    ]
    comparison = compare(first, Perplexity(tuple(better), "word"))
    assert [comparison.bits, comparison.low, comparison.high] == pytest.approx([-1, -1, -1])
    assert comparison.verdict == "the second model is better"


def test_models_of_other_vocabularies_are_not_compared(arpa: Path, tmp_path: Path) -> None:
    model = load_language_model(arpa)
    assert why_incomparable(model, model) is None
    assert "characters" in str(why_incomparable(model, character_model(tmp_path / "c.arpa")))
    arpa.with_name("d.arpa").write_text(ARPA.replace("\tc\t", "\td\t").replace(" c", " d").replace("c ", "d "))
    assert "vocabularies differ (1 and 1 words" in str(why_incomparable(model, load_language_model(arpa.with_name("d.arpa"))))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("\\data\\", "data", "neither a KenLM binary file nor an ARPA"),
        ("ngram 2=6", "ngram 3=6", "ngram 2=NUMBER"),
        ("ngram 1=6", "ngram 1=7", "lists 6 words"),
        ("ngram 2=6\nngram 3=2\n", "", "n-grams of 1 words"),
        ("-0.5\ta", "x\ta", "logarithm"),
        ("-0.5\ta", "0.5\ta", "logarithm"),
        ("-0.5\ta", "nan\ta", "logarithm"),
        ("-0.5\ta\t-0.2", "-0.5\tc\t-0.2", "twice"),
        ("-0.5\ta\t-0.2", "-0.5\ta b\t-0.2 1", "a word and perhaps"),
        ("<s> a b", "<s> q b", "KenLM cannot read it"),
        ("\\end\\", "", "is it truncated"),
        ("ngram 3=2", "ngram 3=-1", "expected `ngram 3=NUMBER`"),  # KenLM would take it for 2^64 - 1
        ("ngram 3=2", "ngram 3=99999999", "expected 50,000,000 at most"),
        ("ngram 2=6", "ngram 2=7", "other lines"),
        ("-0.4\t<s> a", "-0.4\t<s> a\n-0.4\t<s> b", "other lines"),
        ("-0.4\t<s> a", "nan\t<s> a", "expected a number in front, got b'nan"),
        ("-0.4\t<s> a", "-inf\t<s> a", "expected a number in front, got b'-inf"),
        ("-0.4\t<s> a", f"-0.4\t<s> {'a' * 5000}", "a line of 5,016 bytes; expected 4,096"),
        ("-0.9\t</s>", "-0.9\tz", "KenLM cannot read it"),
    ],
)
def test_broken_arpa_file_is_refused(arpa: Path, old: str, new: str, words: str) -> None:
    assert old in ARPA
    arpa.write_text(ARPA.replace(old, new))
    with pytest.raises(PackageError, match=words) as caught:
        load_kenlm(arpa)
    assert str(arpa) in str(caught.value)


def test_longer_ngrams_than_kenlm_reads_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "long.arpa"
    path.write_text("\\data\\\n" + "".join(f"ngram {n}=3\n" for n in range(1, 8)) + "\n\\1-grams:\n")
    with pytest.raises(PackageError, match="n-grams of 7 words; expected 2 to 6"):
        load_kenlm(path)


@pytest.mark.parametrize("content", [b"", b"\0" * 1000, b"PK\x03\x04", gzip.compress(b"hello"), b"\x1f\x8bxx", b"\\data\\"])
def test_foreign_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "foreign.bin"
    path.write_bytes(content)
    with pytest.raises(PackageError, match=r"foreign\.bin"):
        load_language_model(path)


@pytest.mark.parametrize("kind", ["trie", "probing"])
def test_binary_file_is_checked_and_its_words_are_found(arpa: Path, kind: str) -> None:
    binary = build_binary(arpa, kind)
    header = read_header(binary)
    assert (header.format, header.counts) == (kind, (6, 6, 2))
    assert set(read_words(binary, header)) == {"a", "b", "c"}
    model = load_language_model(binary)
    assert tuple(model.words) == ("a", "b", "c")
    for text, log10 in BY_HAND.items():
        assert model.score([text.split()])[0].log_prob == pytest.approx(log10 * math.log(10), abs=1e-4), text
    content = binary.read_bytes()
    for length in [*range(0, 200, 7), len(content) - 1, len(content) - 9]:
        binary.write_bytes(content[:length])
        with pytest.raises(PackageError, match=str(binary)):
            load_kenlm(binary)
    for at, name in ((88, "n-grams of"), (94, "header"), (96, "header"), (108, "speaks of|table"), (60, "incomplete")):
        binary.write_bytes(content[:at] + b"\xee\xee" + content[at + 2 :])
        with pytest.raises(PackageError, match=name):
            load_kenlm(binary)


@pytest.mark.slow
def test_truncated_and_garbled_files_never_end_the_process(arpa: Path) -> None:
    """Each file is tried in a process of its own kind: one that dies would take the tests along."""
    rng = random.Random(5)
    files = [arpa.read_bytes(), gzip.compress(arpa.read_bytes()), build_binary(arpa, "trie").read_bytes()]
    for number in range(120):
        content = bytearray(files[number % 3])
        if number % 2:
            del content[rng.randrange(len(content)) :]
        else:
            for _ in range(3):
                content[rng.randrange(len(content) if number % 3 < 2 else 150)] = rng.randrange(256)
        arpa.with_name(f"broken{number}").write_bytes(content)
    code = (
        "import sys, pathlib\nfrom asr.language.ngram import load_kenlm\nfrom asr.errors import AsrError\n"
        "for path in sorted(pathlib.Path(sys.argv[1]).glob('broken*')):\n"
        "    try:\n        load_kenlm(path).score([['a', 'b', 'q']])\n    except AsrError:\n        pass\n"
        "print('alive')\n"
    )
    result = subprocess.run([sys.executable, "-c", code, str(arpa.parent)], capture_output=True, text=True)
    assert result.stdout.strip().endswith("alive"), result.stderr[-2000:]


def build_binary(arpa: Path, kind: str) -> Path:
    from asr.errors import ConfigError
    from asr.language.lmplz import find_program

    try:
        program = find_program("build_binary")
    except ConfigError as error:
        pytest.skip(str(error))
    target = arpa.with_suffix(f".{kind}.bin")
    subprocess.run([program, "-S", "50M", kind, str(arpa), str(target)], check=True, capture_output=True)
    return target
