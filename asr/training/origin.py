"""The package that a run started from, as its checkpoints keep it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from asr.config import Config, DecodingConfig, TokensConfig
from asr.package.parts import LANGUAGE_NAME

logger = logging.getLogger(__name__)

PARTS = {"lm": "ngram", "lstm": "lstm", "lexicon_file": "lexicon"}
"""Settings of the decoder that name files, and how those begin in a package's folder of language models."""


@dataclass(frozen=True)
class StartingPackage:
    """The package that a run started from; it is kept in the run's checkpoints, since the package itself may go.

    Attributes
    ----------
    package
        Its path, as it was given.
    checkpoint_hash
        Of its weights, as :class:`asr.package.load.ModelPackage` has it.
    tokens
        The settings that the run's tokenizer was made with: the package's, or the run's own where its head is new.
    decoding
        The package's decoder, with whole paths, where the run's package shall have it as well.
    """

    package: str
    checkpoint_hash: str
    tokens: TokensConfig
    decoding: DecodingConfig | None = None

    def __str__(self) -> str:
        return f"{self.package} (checkpoint {self.checkpoint_hash})"

    def to_mapping(self) -> dict[str, Any]:
        """Return what a checkpoint holds."""
        return asdict(self)

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> StartingPackage:
        """Return what :meth:`to_mapping` described."""
        decoding = mapping.get("decoding")
        return cls(
            mapping["package"],
            mapping["checkpoint_hash"],
            TokensConfig(**mapping["tokens"]),
            None if decoding is None else DecodingConfig(**decoding),
        )

    def packaged(self, config: Config, folder: Path) -> Config:
        """Return a run's configuration as its model package has it.

        Parameters
        ----------
        config
            The run's.
        folder
            Where its package will lie, or does already: a language model is taken from there if the first one has gone.
        """
        config = replace(config, tokens=self.tokens)
        if self.decoding is None:
            return config
        paths: dict[str, Any] = {}
        for name, stem in PARTS.items():
            path = getattr(self.decoding, name)
            if path is not None and not Path(path).exists():
                copies = sorted((folder / LANGUAGE_NAME).glob(f"{stem}*"))
                if not copies:
                    logger.warning(
                        f"{path} is not there any more: the package is written without the decoder of {self.package}"
                    )
                    return config
                paths[name] = f"{LANGUAGE_NAME}/{copies[0].name}"
        return replace(config, decoding=replace(self.decoding, **paths))


def resumed_origin(mapping: Mapping[str, Any] | None, config: Config) -> StartingPackage | None:
    """Return the origin that a checkpoint holds; where the configuration names another package, this is logged.

    Parameters
    ----------
    mapping
        What :meth:`StartingPackage.to_mapping` gave; None where the run started from random weights.
    config
        The configuration that the run is resumed with.
    """
    origin = None if mapping is None else StartingPackage.from_mapping(mapping)
    given = config.trainer.pretrained
    if given is not None and (origin is None or given != origin.package):
        logger.warning(f"trainer.pretrained={given} is not read: the run started from {origin or 'random weights'} and goes on")
    return origin
