"""A tuned decoder into its model package, with the language models that it needs."""

from __future__ import annotations

import dataclasses
import datetime
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from asr.config import DecodingConfig
from asr.decoding.builders.lexicon import load_lexicon
from asr.decoding.scorers.loading import word_source
from asr.errors import PackageError
from asr.file_names import CARD_NAME, CONFIG_NAME
from asr.files import replacing
from asr.output import to_json
from asr.package.card import add_tuning
from asr.package.load import ModelPackage, weights_hash
from asr.package.parts import TUNING_NAME, read_card, read_config
from asr.package.save import self_contained, update_package
from asr.tuning.picture import draw
from asr.tuning.run import Tuned
from asr.tuning.summary import title
from asr.tuning.tuner import Tuning

FOLDER = TUNING_NAME
LOG_NAME = "tuning.jsonl"
PICTURE_NAME = "tuning.png"


def keep(tuned: Tuned, folder: Path | None = None, *, dry_run: bool = False) -> list[str]:
    """Write what was found: the records of the search, and the settings into the package.

    Parameters
    ----------
    tuned
        What became of the tuning.
    folder
        Where ``tuning.jsonl`` and ``tuning.png`` go; by default into the package, below ``tuning``.
    dry_run
        Leave the package as it is.

    Returns
    -------
    list of str
        Paths of what was written.

    Raises
    ------
    PackageError
        The package may not be written to, or was changed since it was read.
    StorageError
        A file cannot be written.
    """
    files = _records(tuned)
    written: list[str] = []
    if folder is not None:
        _write_records(files, folder)
        written += [str(folder / name) for name in files]
    if not dry_run:
        inside = {} if folder is not None else {f"{FOLDER}/{name}": content for name, content in files.items()}
        copied = store(tuned.package, tuned.tuning, tuned.manifests, files=inside)
        written += [str(tuned.package.folder / name) for name in (CONFIG_NAME, CARD_NAME, *copied, *inside)]
    return written


def _records(tuned: Tuned) -> dict[str, bytes]:
    """Return the contents of ``tuning.jsonl``, a line a trial, and of ``tuning.png``, by name."""
    lines = [to_json(trial.to_mapping()) + "\n" for trial in tuned.tuning.trials]
    return {LOG_NAME: "".join(lines).encode(), PICTURE_NAME: draw(tuned.tuning, title(tuned.manifests, tuned.tuning))}


def _write_records(contents: Mapping[str, bytes], folder: Path) -> None:
    for name, content in contents.items():
        with replacing(folder / name) as stream:
            stream.write(content)


def store(package: ModelPackage, tuning: Tuning, manifests: Sequence[str], *, files: Mapping[str, bytes]) -> list[str]:
    """Write the tuned settings into the package, with what they need from elsewhere, whole or not at all.

    Parameters
    ----------
    package
        The package.
    tuning
        What the search found.
    manifests
        Names of what it was tuned on.
    files
        Further files, by path inside the package.

    Returns
    -------
    list of str
        Paths inside the package of what was copied.

    Raises
    ------
    PackageError
        The package may not be written to, or was changed since it was read.
    """
    _check_unchanged(package)
    # How many processes decode is a matter of the machine.
    decoding = dataclasses.replace(tuning.config, jobs=package.config.decoding.jobs)
    score = tuning.decoded.score
    with tempfile.TemporaryDirectory() as scratch:
        decoding = _with_lexicon(decoding, package, Path(scratch) / "lexicon.tsv")
        decoding, copies = self_contained(decoding, package.folder)
        update_package(
            package.folder,
            dataclasses.replace(package.config, decoding=decoding),
            add_tuning(
                read_card(package.folder),
                decoder=tuning.decoded.decoder,
                manifests=manifests,
                score=score,
            ),
            files={**files, **copies},
            facts={**package.facts, "tuning": _facts(tuning, manifests)},
        )
    return list(copies)


def _check_unchanged(package: ModelPackage) -> None:
    """Make sure that what was tuned is what is there now: the search takes long, and another process may have written it."""
    config, facts = read_config(package.folder / CONFIG_NAME)
    if weights_hash(package.folder) != package.checkpoint_hash or (config, facts) != (package.config, package.facts):
        raise PackageError(
            f"{package.folder}: was changed by another process since tuning began; nothing is stored: tune it again"
        )


def _facts(tuning: Tuning, manifests: Sequence[str]) -> dict[str, Any]:
    score = tuning.decoded.score
    return {
        "date": datetime.date.today().isoformat(),
        "manifests": list(manifests),
        "utterances": len(score.utterances),
        "trials": len(tuning.trials),
        "decoder": tuning.decoded.decoder,
        "wer": score.wer.to_mapping(),
        "cer": score.cer.to_mapping(),
    }


def _with_lexicon(config: DecodingConfig, package: ModelPackage, file: Path) -> DecodingConfig:
    """Write down the words' pronunciations where they would come from a voice, which another machine may have otherwise."""
    if package.tokenizer.writes_words or not config.lexicon or config.lexicon_file is not None:
        return config
    source = word_source(config, package.tokenizer, package.folder)
    if source is None:
        return config
    load_lexicon(source, package.tokenizer, None).lexicon.save(file, package.tokenizer)
    return dataclasses.replace(config, lexicon_file=str(file))
