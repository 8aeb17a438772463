"""``train_lstm``: from texts to the package of an LSTM language model."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch

from asr.engine.checkpoint import LAST
from asr.engine.resume import ENGINE_FREE, Terms, find_checkpoint
from asr.engine.run import LOG, Run, choose_precision, is_main, local_rank, logging_to, set_up_torch
from asr.errors import ConfigError
from asr.file_names import CONFIG_NAME
from asr.files import foreign_entry, locked, remove_folder, replacing_folder, tidy
from asr.language.config import LstmTraining, NormaliserConfig
from asr.language.lstm import LstmModel, LstmNetwork
from asr.language.lstm_module import LstmModule
from asr.language.lstm_package import write_lstm
from asr.language.lstm_text import TrainingText, read_training_text
from asr.language.lstm_windows import TextData
from asr.language.memory import peak_memory_gib
from asr.language.package import LOG_NAME, check_replaceable, load_language_model
from asr.option import leaves
from asr.untrusted import read_yaml

logger = logging.getLogger(__name__)

WORKING = ".training"
"""Ends the name of the folder with checkpoints and logs; it lies beside the package, and goes when training is complete."""
_PACKAGE = "package"

TERMS = Terms(
    free=frozenset({"name", "output", "resume", *(f"lm.{key}" for key in ENGINE_FREE)}),
    said=frozenset(f"lm.{key}" for key in ("epochs", "validations", "patience", "precision")),
    by_content=frozenset(
        {"text", "dev", "text_ids", "manifests", "lm.held_out", *(f"tokens.{key}" for key in leaves(NormaliserConfig))}
    ),
    validation="",
    section="lm",
    data="another text: give it the text back, or {elsewhere}",
    elsewhere="choose another output=...",
    anew="Remove its folder to begin anew, or choose another output=...",
)


def train_lstm(config: LstmTraining) -> int:
    """Train an LSTM and write its package to ``config.output``.

    The checkpoint, and the package of the best weights so far, are kept in ``<output>.training``; at the end the package is put
    in its place.

    Parameters
    ----------
    config
        A checked configuration.

    Returns
    -------
    int
        0 when training is complete, 130 when the user stopped it.

    Raises
    ------
    ConfigError, DataError
        For texts or a folder that cannot be used, or a run there that this one cannot go on with.
    TrainingDiverged
        If the loss is no longer finite.
    """
    start = time.monotonic()
    folder = Path(config.output).absolute()
    tidy(folder.parent)
    check_replaceable(folder)
    precision = choose_precision(config.lm, "lm")
    with _working_folder(folder) as working:
        with logging_to(working / LOG):
            checkpoint = find_checkpoint(working, config, TERMS)
            text = read_training_text(config, working / f"text-{local_rank()}")
            data = TextData(text, config)
            set_up_torch(config.lm, config.seed)
            module = build_module(config, text, data.epoch_batches * config.lm.epochs)
            logger.info(
                f"{config.name}: {sum(parameter.numel() for parameter in module.network.parameters()):,} parameters; "
                f"{config.lm.epochs} epochs of {data.epoch_batches:,} batches of {data.n_rows} x {data.steps} "
                f"{text.units.name}s, {precision}"
            )
            package = LstmPackage(working / _PACKAGE, config, text)
            run = Run(working, config, TERMS, module, data, package, (text.hash, text.dev_hash), checkpoint)
            del checkpoint  # it is read again when all else is ready
            if (code := run.train()) or not is_main():
                return code
            best = f"perplexity {run.checkpoints.best_merit[0]:.2f}" if run.checkpoints.best_epoch else "last weights"
            used = f"{time.monotonic() - start:.0f} s, peak memory {peak_memory_gib():.2f} GiB"
            logger.info(f"done in {used}: {best}; language model package {config.output}")
        with replacing_folder(folder) as place:
            shutil.copytree(working / _PACKAGE, place, dirs_exist_ok=True)
            shutil.copyfile(working / LOG, place / LOG_NAME)
        remove_folder(working)
    return 0


def build_module(config: LstmTraining, text: TrainingText, total_steps: int) -> LstmModule:
    """Return the untrained network, which foretells the units' frequencies."""
    network = LstmNetwork(config.lm, len(text.vocabulary) + 2)
    normalised = config.lm.self_normalisation > 0
    model = LstmModel(network, text.units, text.vocabulary.units, text.form, "", self_normalised=normalised)
    counts = torch.from_numpy(text.train.counts(len(model), model.end))
    with torch.no_grad():
        network.bias.copy_((counts.clamp(min=0.5) / counts.sum()).log())
    return LstmModule(config.lm, model, counts, seed=config.seed, total_steps=total_steps)


class LstmPackage:
    """The package of the best weights; see :class:`asr.engine.saving.Package`.

    Parameters
    ----------
    path
        Its folder.
    config, text
        Of the run.
    """

    def __init__(self, path: Path, config: LstmTraining, text: TrainingText) -> None:
        self.path, self.config, self.text = path, config, text

    def read(self) -> tuple[str, float]:
        model = load_language_model(self.path)
        assert isinstance(model, LstmModel)
        return model.hash, read_yaml(self.path / CONFIG_NAME)["training"].get("epoch", 0)

    def write(self, module: LstmModule) -> str:
        perplexity, text = module.perplexity, self.text
        facts = {
            "text": self.config.text,
            "sentences": text.n_sentences,
            "words": text.n_words,
            "epoch": module.epochs_trained,
            "seed": self.config.seed,
            "dev": self.config.dev or (["sentences of the text that were kept out of training"] if text.dev else []),
            "dev_perplexity": perplexity.to_mapping() if perplexity else None,
        }
        shown = {"name": self.config.name, "shown_folder": self.config.output}
        write_lstm(self.path, self.config.lm, module.model, text.vocabulary, facts, perplexity, **shown)
        return module.model.hash


@contextmanager
def _working_folder(folder: Path) -> Iterator[Path]:
    """Give the folder to work in, to one run; where an error leaves nothing in it to go on from, it goes again."""
    working = folder.parent / f"{folder.name}{WORKING}"
    if is_main() and not (working / LOG).exists() and (foreign := foreign_entry(working, ())) is not None:
        raise ConfigError(
            f"{working}: holds {foreign}, and no {LOG} of a training; the work on {folder.name} is done there. Move it away, "
            "or choose another output"
        )
    with locked(working / LOG) if is_main() else nullcontext():
        try:
            yield working
        except BaseException:
            if is_main() and not (working / LAST).exists() and not (working / _PACKAGE).exists():
                shutil.rmtree(working, ignore_errors=True)
            raise
