"""``train_ngram``: from texts to the package of an n-gram model."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from asr.file_names import CARD_NAME
from asr.language.card import build_card
from asr.language.config import NgramTraining
from asr.language.corpus import Corpus, named_sources, prepare_corpus
from asr.language.kenlm import read_header
from asr.language.lmplz import DiscountError, count_ngrams, find_program, pack
from asr.language.memory import peak_memory_gib
from asr.language.ngram import NgramModel
from asr.language.package import NGRAM_NAMES, new_folder, write_config
from asr.language.perplexity import Perplexity, measure
from asr.language.texts import TextSource, sentences
from asr.language.units import UNKNOWN, Units, plain_units
from asr.language.vocabulary import Vocabulary, limit
from asr.text import Normaliser

logger = logging.getLogger(__name__)

_PLACEHOLDER = "<oov>"
"""Stands for unknown units while n-grams are counted: lmplz refuses ``<unk>`` in its text."""
_BLOCK = 1 << 24


def train_ngram(config: NgramTraining) -> Path:
    """Train an n-gram model and write its package to ``config.output``, whole or not at all.

    Words outside the vocabulary are counted as one, ``<unk>``, so that it gets the probability of meeting any of them.

    Parameters
    ----------
    config
        A checked configuration.

    Returns
    -------
    Path
        The package's folder.

    Raises
    ------
    ConfigError, DataError
        For programs, texts or a folder that cannot be used.
    Failure, StorageError
        KenLM's programs failed, or the disk is full.
    """
    start = time.monotonic()
    folder = Path(config.output)
    form = Normaliser(config.tokens.alphabet, config.tokens.case, config.tokens.punctuation)
    units = plain_units(config.lm.unit, form)
    sources = named_sources(config.text, "text", config.manifests, config.text_ids)
    dev = named_sources(config.dev, "dev", config.manifests, config.text_ids) if config.dev else []
    find_program("lmplz")
    if config.lm.format != "arpa":
        find_program("build_binary")
    with new_folder(folder) as work:
        with tempfile.TemporaryDirectory(dir=work) as scratch:
            corpus = prepare_corpus(sources, form, Path(scratch) / "text")
            vocabulary = _choose_vocabulary(corpus, units, config, form)
            file, built = _build(corpus, vocabulary, units, config, work, Path(scratch))
        vocabulary.save(work)
        header = read_header(file)
        model = NgramModel(file, header, units, vocabulary.units, form)
        perplexity = _measure(model, dev, form)
        facts: dict[str, Any] = {
            "text": config.text,
            "sentences": corpus.n_sentences,
            "words": corpus.n_words,
            "prune": config.lm.prune,
            "ngrams": list(header.counts),
            **built,
            "seconds": round(time.monotonic() - start, 1),
            "memory_gib": peak_memory_gib(),
            "dev": config.dev,
            "dev_perplexity": perplexity.to_mapping() if perplexity else None,
        }
        write_config(work, file, kind="ngram", unit=units.name, form=form, model={"order": header.order}, training=facts)
        (work / CARD_NAME).write_text(build_card(config.name, model, facts, perplexity, str(folder)), encoding="utf-8")
    _report(facts, folder)
    return folder


def _build(
    corpus: Corpus, vocabulary: Vocabulary, units: Units, config: NgramTraining, work: Path, scratch: Path
) -> tuple[Path, dict[str, Any]]:
    """Count, smooth and pack; return the model's file, and what there is to say about it."""
    counted, fallback = _count(corpus, vocabulary, units, config, scratch)
    file = work / NGRAM_NAMES[config.lm.format]
    arpa = file if config.lm.format == "arpa" else scratch / "named.arpa"
    _name_unknown(counted, arpa)
    counted.unlink()
    built = {"discount_fallback": fallback, "arpa_bytes": arpa.stat().st_size}
    if arpa != file:
        logger.info(f"packing as {config.lm.binary}")
        pack(arpa, file, config.lm, scratch)
    return file, {**built, "bytes": file.stat().st_size}


def _choose_vocabulary(corpus: Corpus, units: Units, config: NgramTraining, form: Normaliser) -> Vocabulary:
    counts = units.count(corpus.counts, corpus.n_sentences)
    vocabulary = limit(counts, config.lm.vocabulary_size, form.alphabet + units.signs)
    n_units, covered = sum(counts.values()), sum(vocabulary.counts)
    logger.info(
        f"{corpus.n_sentences:,} sentences, {corpus.n_words:,} words; vocabulary {len(vocabulary):,} of {len(counts):,} "
        f"{units.name}s, which covers {100 * covered / n_units:.2f} % of the text"
    )
    if covered == n_units:
        logger.warning("every unit of the text is in the vocabulary, so nothing is learned about unknown ones")
    return vocabulary


def _count(corpus: Corpus, vocabulary: Vocabulary, units: Units, config: NgramTraining, scratch: Path) -> tuple[Path, bool]:
    """Return lmplz's ARPA file, and whether fixed discounts had to be used."""
    try:
        return count_ngrams(_lines(corpus, vocabulary, units), corpus.n_sentences, config.lm, scratch), False
    except DiscountError:
        logger.warning(
            "the text is too small or too regular for Kneser-Ney discounts to be estimated for every length; using fixed ones "
            "(0.5, 1 and 1.5 for what was counted once, twice and more often) where they cannot be"
        )
    lines = _lines(corpus, vocabulary, units)
    return count_ngrams(lines, corpus.n_sentences, config.lm, scratch, fallback=True), True


def _lines(corpus: Corpus, vocabulary: Vocabulary, units: Units) -> Iterator[str]:
    """Yield sentences in the form that lmplz reads."""
    known = vocabulary.indices
    for words in corpus.sentences():
        yield " ".join([unit if unit in known else _PLACEHOLDER for unit in units.split(words)])


def _name_unknown(arpa: Path, target: Path) -> None:
    """Give the placeholder its name: the class of unknown units becomes ``<unk>``, instead of the one that lmplz adds itself.

    lmplz's own ``<unk>`` stands for what never occurred at all; it goes, where there is a class of unknown units.
    """
    with open(arpa, "rb") as source, open(target, "wb") as stream:
        head = []
        for line in source:
            head.append(line)
            if line.startswith(b"\\2-grams:"):
                break
        names = [line.split(b"\t")[1].strip() for line in head if line.count(b"\t")]
        if _PLACEHOLDER.encode() in names:
            head = [line for line in head if line.split(b"\t")[1:2] != [UNKNOWN.encode()]]
            head[1] = b"ngram 1=%d\n" % (len(names) - 1)
        stream.write(_renamed(b"".join(head)))
        while block := source.read(_BLOCK) + source.readline():
            stream.write(_renamed(block))


def _renamed(block: bytes) -> bytes:
    return block.replace(_PLACEHOLDER.encode(), UNKNOWN.encode())


def _measure(model: NgramModel, dev: list[TextSource], form: Normaliser) -> Perplexity | None:
    if not dev:
        return None
    perplexity = measure(model, [sentence.split() for sentence in sentences(dev, form)])
    for line in perplexity.summary().splitlines():
        logger.info(f"dev: {line}")
    return perplexity


def _report(facts: Mapping[str, Any], folder: Path) -> None:
    counts = " + ".join(f"{n:,}" for n in facts["ngrams"])
    logger.info(
        f"done in {facts['seconds']:.0f} s, peak memory {facts['memory_gib']:.2f} GiB: {counts} n-grams, "
        f"{facts['bytes'] / 1e6:.1f} MB (ARPA {facts['arpa_bytes'] / 1e6:.1f} MB); language model package {folder}"
    )
