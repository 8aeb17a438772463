"""Composition of a configuration from a schema, the groups of ``conf/``, a recipe and command-line overrides.

Hydra does the composing. This module tells it where the files are (a checkout, an installed wheel, the user's own folder),
keeps recipes in a folder of their own, and checks every override first, so that a mistyped one is refused by a message that
names the nearest right one.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from asr.config import Config, conf_dir, recipes_dir
from asr.config_checks import validate
from asr.config_mapping import explain, to_object
from asr.errors import ConfigError
from asr.option import leaves, nearest, sections

GROUPS = ("corpus", "tokens", "frontend", "augment", "model", "optim", "decoding", "trainer")
"""Configuration groups of `asr train`: each is a folder of YAML files and a section of the schema."""

T = TypeVar("T")


@dataclass(frozen=True)
class Schema(Generic[T]):
    """What a command can be told.

    Attributes
    ----------
    name
        The command starts from ``conf/<name>.yaml``.
    type
        Dataclass of every field.
    groups
        Sections of it that have a folder of YAML files in ``conf/``.
    check
        Raises a ConfigError for values and combinations that cannot be.
    recipes
        Whether the experiments of ``recipes/`` are of this schema.
    """

    name: str
    type: type[T]
    groups: tuple[str, ...]
    check: Callable[[T], None]
    recipes: bool = False


TRAINING = Schema("train", Config, GROUPS, validate, recipes=True)
"""The schema of `asr train`."""


def compose(overrides: Sequence[str] = (), config_dir: Path | str | None = None) -> Config:
    """Compose a configuration of `asr train`; see :func:`compose_schema`."""
    return compose_schema(TRAINING, overrides, config_dir)


def compose_schema(schema: Schema[T], overrides: Sequence[str] = (), config_dir: Path | str | None = None) -> T:
    """Compose a configuration.

    Parameters
    ----------
    schema
        What can be told.
    overrides
        Hydra's overrides: ``trainer.epochs=3`` sets a key, ``model=small`` chooses a group's file,
        ``+recipe=librispeech/mini`` lays an experiment over the defaults. A recipe gives way to all the others: where a
        group's file is chosen beside it, what the recipe says of that group is left out.
    config_dir
        A folder with groups (``model/mine.yaml``) and recipes (``recipes/mine/first.yaml``) of one's own.

    Returns
    -------
    T
        An object of the schema, checked.

    Raises
    ------
    ConfigError
        For an unknown key, group, file or recipe, a wrong type, or a value out of range.

    Examples
    --------
    >>> compose(["frontend=mfcc", "trainer.epochs=3"]).frontend.kind
    'mfcc'
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.config_store import ConfigStore
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    user_dir = _user_dir(config_dir)
    recipes = list_recipes(config_dir) if schema.recipes else {}
    store = ConfigStore.instance()
    store.store(name="schema", node=schema.type)
    checked = [_check_override(schema, text, config_dir) for text in overrides]
    checked += [f"hydra.searchpath=[file://{user_dir}]"] if user_dir else []
    # Another composition in this process, or a user's own Hydra application, must not be disturbed.
    outer = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        _store_recipes(store, recipes)
        with initialize_config_dir(str(conf_dir()), version_base="1.3", job_name="asr"):
            composed = hydra_compose(schema.name, checked)
            if schema.recipes and (groups := [key for text in checked if (key := text.partition("=")[0]) in schema.groups]):
                # Hydra lays the recipe over the files of groups, these as well.
                without = hydra_compose(schema.name, [text for text in checked if not text.startswith("+recipe=")])
                for group in groups:
                    composed[group] = without[group]
            config = to_object(composed, schema.type)
        schema.check(config)
        return config
    except OmegaConfBaseException as error:
        raise explain(error, schema.type) from None
    except HydraException as error:
        raise _explain_hydra(schema, error, recipes, checked) from None
    finally:
        store.repo.pop("recipe", None)
        GlobalHydra.instance().hydra = outer


def expand(overrides: Sequence[str]) -> list[list[str]]:
    """Return the combinations of overrides that name several values, such as ``seed=1,2`` or ``optim.lr=choice(1e-3,2e-3)``.

    Raises
    ------
    ConfigError
        For an override that Hydra cannot read, or from which no list of values follows.

    Examples
    --------
    >>> expand(["seed=1,2", "trainer.epochs=3"])
    [['seed=1', 'trainer.epochs=3'], ['seed=2', 'trainer.epochs=3']]
    """
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.errors import HydraException

    values: list[list[str]] = []
    for text in overrides:
        try:
            (combinations,) = BasicSweeper.split_arguments([_parse_override(text)], None)
        except HydraException as error:
            raise ConfigError(f"{text!r}: {' '.join(str(error).split())}; list the values, as in seed=1,2") from None
        if not combinations:
            raise ConfigError(f"{text!r}: is no value at all; list the values, as in seed=1,2")
        values.append([value for (value,) in combinations])
    return [list(combination) for combination in itertools.product(*values)]


def quote(value: str) -> str:
    r"""Quote a text so that it is one value of an override, whatever characters it has.

    Examples
    --------
    >>> print("output=" + quote("runs/it's"))
    output='runs/it\'s'
    """
    return "'" + re.sub(r"(\\*)('|\Z)", lambda match: 2 * match[1] + ("\\'" if match[2] else ""), value) + "'"


def list_groups(config_dir: Path | str | None = None, schema: Schema[Any] = TRAINING) -> dict[str, list[str]]:
    """Names of the files of each group of a schema, the user's own included."""
    folders = [folder for folder in (conf_dir(), _user_dir(config_dir)) if folder]
    return {group: [name for folder in folders for name in _yaml_names(folder / group)] for group in schema.groups}


def group_file(group: str, name: str, config_dir: Path | str | None = None) -> Path:
    """Return the file of a group, ours or the user's own.

    Raises
    ------
    ConfigError
        There is none of that name.
    """
    folders = [folder for folder in (conf_dir(), _user_dir(config_dir)) if folder]
    _check_choice(group, name, [found for folder in folders for found in _yaml_names(folder / group)])
    return next(path for folder in folders if (path := folder / group / f"{name}.yaml").is_file())


def list_recipes(config_dir: Path | str | None = None) -> dict[str, Path]:
    """Recipes by name (``corpus/experiment``), the user's own included.

    Raises
    ------
    ConfigError
        Where one of the user's groups or recipes has the name of one of ours, so that one would hide the other.
    """
    found = {name: recipes_dir() / f"{name}.yaml" for name in _yaml_names(recipes_dir())}
    user_dir = _user_dir(config_dir)
    if user_dir is None:
        return found
    mine = {name: user_dir / "recipes" / f"{name}.yaml" for name in _yaml_names(user_dir / "recipes")}
    clashes = [f"recipes/{name}" for name in mine if name in found]
    clashes += [
        f"{group}/{name}" for group, names in list_groups(config_dir).items() for name in names if names.count(name) > 1
    ]
    if clashes:
        raise ConfigError(f"{user_dir / clashes[0]}.yaml: a file of that name comes with asr; give yours another name")
    return found | mine


def _yaml_names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml"))


def _user_dir(config_dir: Path | str | None) -> Path | None:
    if config_dir is None:
        return None
    folder = Path(config_dir).expanduser().resolve()
    if not folder.is_dir():
        raise ConfigError(f"--config-dir {config_dir}: no such folder")
    return folder


def _store_recipes(store: Any, recipes: dict[str, Path]) -> None:
    """Give Hydra the recipes as a group, wherever their files are.

    A group's folder would otherwise have to be called ``recipe`` and lie among the folders of ``conf/``.
    """
    import yaml
    from omegaconf import OmegaConf

    for name, path in recipes.items():
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from None
        if not isinstance(content, dict):
            raise ConfigError(f"{path}: expected a mapping of configuration keys, got {type(content).__name__}")
        if isinstance(bases := content.get("defaults"), list):  # which Hydra would look for beside the recipe
            content["defaults"] = [f"/recipe/{base}" if isinstance(base, str) and base in recipes else base for base in bases]
        group, _, leaf = f"recipe/{name}".rpartition("/")
        store.store(group=group, name=leaf, node=OmegaConf.create(content), package="_global_", provider="recipes")


def _check_override(schema: Schema[Any], text: str, config_dir: Path | str | None) -> str:
    """Refuse an override that names nothing, and bring the rest into the one form that Hydra accepts."""
    options = leaves(schema.type)
    if "=" not in text and not text.startswith("~"):
        raise ConfigError(f"{text!r}: expected KEY=VALUE, such as name=trial.{nearest(text.lstrip('+'), options)}")
    override = _parse_override(text)
    key = override.key_or_group
    if override.is_delete():
        raise ConfigError(f"{text!r}: nothing can be deleted; set {key} to another value instead")
    if override.is_sweep_override():
        raise ConfigError(
            f"{text!r}: one value is expected; write a list as {key}=[a,b], quote text that has a comma in it, and to "
            "train with each value give --multirun"
        )
    value = text.partition("=")[2]
    if key == "recipe" and schema.recipes:
        _check_choice(key, override.value(), list(list_recipes(config_dir)))
        return f"+recipe={value}"
    if key in schema.groups:
        _check_choice(key, override.value(), list_groups(config_dir, schema)[key])
    elif key not in options:
        known = [*options, *schema.groups, *(["recipe"] if schema.recipes else [])]
        inside = [name for name in options if name.startswith(f"{key}.")]
        hint = f" It holds {', '.join(inside)}." if key in sections(schema.type) else nearest(key, known)
        raise ConfigError(f"unknown key {key} in {text!r}.{hint}")
    return f"{key}={value}"


def _parse_override(text: str) -> Any:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        return OverridesParser.create().parse_override(text)
    except HydraException as error:
        raise ConfigError(f"{text!r}: not a valid override: {' '.join(str(error).split())}; quote special characters") from None


def _check_choice(group: str, value: Any, names: list[str]) -> None:
    if value not in names:
        there = ", ".join(names) or "none"
        raise ConfigError(f"{group}={value}: there is no such {group}.{nearest(str(value), names)} There are: {there}")


def _explain_hydra(schema: Schema[Any], error: Exception, recipes: dict[str, Path], overrides: Sequence[str]) -> ConfigError:
    """Find the first cause of an error of Hydra, and the file in which it arose."""
    from omegaconf.errors import OmegaConfBaseException

    text = " ".join(str(error).partition("Config search path")[0].split())
    named = [path for name, path in recipes.items() if f"'recipe/{name}'" in text]
    # Hydra does not say which file asked for a group's file that is not there; ours are right, so it was the recipe.
    chosen = [path for name, path in recipes.items() if f"+recipe={name}" in overrides]
    where = next((f"{path}: " for path in named + chosen), "")
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OmegaConfBaseException):
            key = str(getattr(cause, "full_key", None) or "")
            values = [text.partition("=")[2] for text in overrides if text.partition("=")[0] == key]
            given = any(value in str(cause) for value in values)  # else the recipe's is wrong, over which they would lie
            return ConfigError(f"{'' if given else where}{explain(cause, schema.type)}")
        cause = cause.__cause__ or cause.__context__
    return ConfigError(f"{where}{text}")


def describe(config_dir: Path | str | None = None, schema: Schema[Any] = TRAINING) -> str:
    """Text of everything that can be set: recipes, groups, and every key with default, range and meaning."""
    lines = ["recipes (+recipe=NAME):", *(f"  {name}" for name in list_recipes(config_dir)), ""] if schema.recipes else []
    lines += ["groups (GROUP=NAME):"]
    lines += [f"  {group:10} {', '.join(names)}" for group, names in list_groups(config_dir, schema).items() if names]
    return "\n".join([*lines, "", "keys (KEY=VALUE), with their defaults:", *_describe_keys(schema.type)])


def _describe_keys(schema: type) -> list[str]:
    section = None
    lines: list[str] = []
    for key, entry in leaves(schema).items():
        if key.rpartition(".")[0] != section:
            section = key.rpartition(".")[0]
            lines += [""] if section else []
        notes = entry.range_name
        lines.append(f"  {key}={_default(entry.field)}")
        lines.append(f"      {entry.field.metadata['doc']}{f' [{notes}]' if notes else ''}")
    return lines


def _default(entry: Any) -> str:
    import dataclasses
    import json

    value = entry.default if entry.default is not dataclasses.MISSING else entry.default_factory()
    return value if isinstance(value, str) and value == value.strip() else json.dumps(value)
