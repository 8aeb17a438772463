"""Training that starts from the weights, the tokenizer and the statistics of a model package (fine-tuning).

Or from its weights and statistics alone, with other tokens and a head of random weights (transfer learning).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr.config import Config, DecodingConfig, TokensConfig, get, options
from asr.decoding.lexicon import find
from asr.errors import ConfigError, PackageError
from asr.option import show
from asr.package import ModelPackage, read_package
from asr.parts import LANGUAGE_NAME
from asr.shipped import find_model

if TYPE_CHECKING:
    from asr.training.module import SpeechModule

logger = logging.getLogger(__name__)

FREE = frozenset(
    {
        "model.cnn.dropout",
        "model.head.dropout",
        "model.recurrent.dropout",
        "model.recurrent.forget_bias",
        "model.recurrent.input_init",
        "model.recurrent.recurrent_init",
    }
)
"""Keys of the network that say how it is trained or begun, not what its weights mean."""

_HEAD = "acoustic.head."
_PARTS = {"lm": "ngram", "lstm": "lstm", "lexicon_file": "lexicon"}
"""Settings of the decoder that name files, and how those begin in a package's folder of language models."""


@dataclass(frozen=True)
class Origin:
    """The package that a run started from; it is kept in the run's checkpoints, since the package itself may go.

    Attributes
    ----------
    package
        Its path, as it was given.
    checkpoint_hash
        Of its weights, as :class:`asr.package.ModelPackage` has it.
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
    def from_mapping(cls, mapping: Mapping[str, Any]) -> Origin:
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
        for name, stem in _PARTS.items():
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


def resumed_origin(mapping: Mapping[str, Any] | None, config: Config) -> Origin | None:
    """Return the origin that a checkpoint holds; where the configuration names another package, this is logged.

    Parameters
    ----------
    mapping
        What :meth:`Origin.to_mapping` gave; None where the run started from random weights.
    config
        The configuration that the run is resumed with.
    """
    origin = None if mapping is None else Origin.from_mapping(mapping)
    given = config.trainer.pretrained
    if given is not None and (origin is None or given != origin.package):
        logger.warning(f"trainer.pretrained={given} is not read: the run started from {origin or 'random weights'} and goes on")
    return origin


def read_pretrained(config: Config, target: Path) -> ModelPackage | None:
    """Read the package that ``trainer.pretrained`` names and make sure that its weights fit the configuration.

    Parameters
    ----------
    config
        The configuration of the run.
    target
        Where the run will write its own package.

    Returns
    -------
    ModelPackage or None
        None where training starts from random weights.

    Raises
    ------
    PackageError
        The package cannot be read.
    ConfigError
        It is of another network, other features or, where its head is kept, another kind of tokens; or it lies where the run's
        own will be written; or a new head is asked for and no package.
    """
    given = config.trainer.pretrained
    if given is None:
        if config.trainer.new_head:
            raise ConfigError(
                "trainer.new_head=true: expected trainer.pretrained as well, the package that the rest comes from"
            )
        return None
    if Path(given).resolve() == target.resolve():
        raise ConfigError(
            f"trainer.pretrained={given}: the run would write its own package in place of this one; choose another folder with "
            "output=... (or name=...)"
        )
    try:
        package = read_package(find_model(given))
    except PackageError as error:
        raise PackageError(f"trainer.pretrained: {error}") from None
    check_fit(config, package.config, given)
    return package


def check_fit(config: Config, pretrained: Config, name: str) -> None:
    """Make sure that weights mean the same in two configurations; other settings of the tokenizer are only logged.

    Raises
    ------
    ConfigError
        With every key that differs, both values, and what to give.
    """
    differing = [key for key in options() if get(config, key) != get(pretrained, key) and key not in FREE]
    if config.trainer.new_head:
        differing = [key for key in differing if not key.startswith(("tokens.", "model.head."))]
    refused = [key for key in differing if key.startswith(("frontend.", "model.")) or key == "tokens.kind"]
    if refused:
        found = ", ".join(f"{key} is {_typed(config, key)} here and {_typed(pretrained, key)} in {name}" for key in refused)
        wanted = " ".join(f"{key}={_typed(pretrained, key)}" for key in refused)
        is_head = not config.trainer.new_head and all(key.startswith(("tokens.", "model.head.")) for key in refused)
        other = ", or trainer.new_head=true to begin with a head of random weights" if is_head else ""
        raise ConfigError(f"trainer.pretrained={name}: its weights fit its own network only: {found}; give {wanted}{other}")
    tokens = [key for key in differing if key.startswith("tokens.")]
    if tokens:
        logger.warning(f"{', '.join(tokens)} differ from {name}, whose tokenizer is used as it is")


def _typed(config: Config, key: str) -> str:
    value = get(config, key)
    return "null" if value is None else show(value)


def start_from(module: SpeechModule, package: ModelPackage) -> None:
    """Give a module the weights and statistics of a package whose network is the same, or the same but for the head.

    A package has no head of the auxiliary loss: that starts from the weights of the only head, whose structure it shares.

    Parameters
    ----------
    module
        Not yet trained; its average, where it keeps one, starts from the same weights.
    package
        What :func:`read_pretrained` returned.
    """
    settings = module.config.trainer
    weights = package.model.state_dict()
    if settings.new_head:
        kept = {name: value for name, value in weights.items() if not name.startswith(_HEAD)}
        weights = kept | {name: value for name, value in module.model.state_dict().items() if name.startswith(_HEAD)}
    for model in filter(None, (module.model, module.average)):
        model.load_state_dict(weights)
    if module.intermediate is not None and not settings.new_head:
        module.intermediate.load_state_dict(package.model.acoustic.head.state_dict())
    tokens, decoding = module.config.tokens, None
    if not settings.new_head:
        tokens, decoding = package.config.tokens, _inherited(module.config.decoding, package)
    module.origin = Origin(str(settings.pretrained), package.checkpoint_hash, tokens, decoding)
    logger.info(f"starting from {module.origin}{', with a new head' if settings.new_head else ''}")
    if decoding is not None:
        logger.info(
            f"its decoder, {decoding.kind}, goes with the new model; validation goes on with {module.decoder.signature}"
        )


def _inherited(given: DecodingConfig, package: ModelPackage) -> DecodingConfig | None:
    """Return a package's decoder with whole paths; None where it is the plain one, or the run was given its own."""
    plain, theirs = DecodingConfig(), package.config.decoding
    if given != plain or theirs == plain:
        return None
    named: dict[str, str | None] = {name: getattr(theirs, name) for name in _PARTS}
    paths: dict[str, Any] = {
        name: str(find(path, package.folder).resolve()) for name, path in named.items() if path is not None
    }
    return replace(theirs, **paths)
