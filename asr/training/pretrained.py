"""Training that starts from the weights, the tokenizer and the statistics of a model package (fine-tuning).

Or from its weights and statistics alone, with other tokens and a head of random weights (transfer learning).
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from asr.config import Config, DecodingConfig, get, options
from asr.errors import ConfigError, PackageError
from asr.option import show
from asr.package.load import ModelPackage, read_package
from asr.package.parts import find_part
from asr.package.shipped import find_model
from asr.training.module import SpeechModule
from asr.training.origin import PARTS, StartingPackage

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
    module.origin = StartingPackage(str(settings.pretrained), package.checkpoint_hash, tokens, decoding)
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
    named: dict[str, str | None] = {name: getattr(theirs, name) for name in PARTS}
    paths: dict[str, Any] = {
        name: str(find_part(path, package.folder).resolve()) for name, path in named.items() if path is not None
    }
    return replace(theirs, **paths)
