"""The package that a training writes of its best weights."""

from __future__ import annotations

import logging
import shutil
from datetime import date
from pathlib import Path

from asr.config import Config
from asr.data.validate import read_synthesisers
from asr.errors import PackageError, StorageError
from asr.file_names import CONFIG_NAME
from asr.files import replacing_folder
from asr.package.card import build_card
from asr.package.load import read_package, weights_hash
from asr.package.parts import TUNING_NAME, read_config
from asr.package.save import check_replaceable, write_package
from asr.training.module import SpeechModule

logger = logging.getLogger(__name__)


class SpeechPackage:
    """The model package of a run; see :class:`asr.engine.saving.Package`.

    Parameters
    ----------
    path
        Its folder.
    config
        The run's.
    """

    def __init__(self, path: Path, config: Config) -> None:
        self.path = path
        self.config = config

    def read(self) -> tuple[str, float]:
        package = read_package(self.path)
        return package.checkpoint_hash, package.facts.get("epoch", 0)

    def write(self, module: SpeechModule) -> str:
        config, score, pretrained = self.config, module.last_score, None
        if module.origin is not None:
            pretrained = str(module.origin)
            config = module.origin.packaged(config, self.path)
        facts = {
            "date": date.today().isoformat(),
            "epoch": min(module.current_epoch + 1, config.trainer.epochs),
            "epochs": config.trainer.epochs,
            "seed": config.seed,
            "train": list(config.corpus.train),
            "dev": list(config.corpus.dev),
            "pretrained": pretrained,
            "dev_wer": score.wer.to_mapping() if score else None,
            "dev_cer": score.cer.to_mapping() if score else None,
        }
        card = build_card(
            config,
            module.finished_model,
            decoder=module.decoder.signature,
            score=score,
            folder=str(self.path),
            pretrained=pretrained,
            synthesisers=read_synthesisers(config.corpus.train, config.corpus.manifests),
        )
        try:
            self._keep_tuned()
            write_package(self.path, config, module.finished_model, module.tokenizer, card, facts)
        except OSError as error:
            raise StorageError(
                f"cannot write {self.path}: {error.strerror or error}. The package and the checkpoint before it are kept; free "
                "some space and go on."
            ) from error
        return weights_hash(self.path)

    def _keep_tuned(self) -> None:
        """Keep a package whose decoder was tuned since it was written, beside the one that takes its place."""
        try:
            _, facts = read_config(self.path / CONFIG_NAME)
        except (FileNotFoundError, PackageError):  # there is none, or nothing in it that could be used
            return
        if TUNING_NAME not in facts:
            return
        epoch = facts.get("epoch")
        kept = self.path.with_name(f"{self.path.name}-{f'epoch-{epoch}' if isinstance(epoch, int) else 'tuned'}")
        check_replaceable(kept)
        with replacing_folder(kept) as temporary:
            shutil.copytree(self.path, temporary, symlinks=True, dirs_exist_ok=True)
        logger.warning(
            f"{self.path}: its decoder was tuned; better weights take its place, with the decoder of this run's settings. The "
            f"tuned package is kept as {kept}; tune the new one as well"
        )
