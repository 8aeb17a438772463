"""Composition of a configuration from a schema, the groups of ``conf/``, a recipe and command-line overrides.

Hydra does the composing. This module tells it where the files are (a checkout, an installed wheel, the user's own folder),
keeps recipes in a folder of their own, and checks every override first, so that a mistyped one is refused by a message that
names the nearest right one.
"""

from __future__ import annotations

import copy
import datetime
import itertools
import typing
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Generic, TypeVar

from asr.assignment import alternatives, quote, read_value, split_assignment, split_commas, unquoted
from asr.compose_circles import find_circle
from asr.config import Config, conf_dir, recipes_dir
from asr.config_checks import validate
from asr.config_mapping import explain, to_object
from asr.errors import ConfigError
from asr.option import Option, leaves, nearest, sections

GROUPS = ("corpus", "tokens", "frontend", "augment", "model", "decoding")
"""Sections of the schema of `asr train` of which ``conf/`` has a folder with files to choose from."""

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
        Each as :mod:`asr.assignment` reads it: ``trainer.epochs=3`` sets a key, ``model=small`` chooses a group's file,
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
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    user_dir = _user_dir(config_dir)
    chosen = _read_overrides(schema, overrides, config_dir)
    # What ships with asr stays as it is while asr runs, and a sweep composes it again and again; the user's own may change.
    compose_files = _compose_files if user_dir else _compose_shipped
    composed = copy.deepcopy(compose_files(schema, tuple(chosen.recipes), tuple(chosen.groups), user_dir))
    try:
        for key, value in chosen.values:
            OmegaConf.update(composed, key, value)
        config = to_object(composed, schema.type)
    except OmegaConfBaseException as error:
        raise explain(error, schema.type) from None
    schema.check(config)
    return config


def _compose_files(
    schema: Schema[Any], chosen_recipes: tuple[str, ...], groups: tuple[tuple[str, str], ...], user_dir: Path | None
) -> Any:
    """Return the OmegaConf node that groups' files and recipes make, before keys are set."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.config_store import ConfigStore
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    recipes = list_recipes(user_dir) if schema.recipes else {}
    store = ConfigStore.instance()
    store.store(name="schema", node=schema.type)
    given = [f"{key}={quote(name)}" for key, name in groups]
    given += [f"hydra.searchpath=[{quote(f'file://{user_dir}')}]"] if user_dir else []
    # Another composition in this process, or a user's own Hydra application, must not be disturbed.
    outer = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        _store_recipes(store, recipes, chosen_recipes, schema.type)
        with initialize_config_dir(str(conf_dir()), version_base="1.3", job_name="asr"):
            composed = hydra_compose(schema.name, [*given, *(f"+recipe={quote(name)}" for name in chosen_recipes)])
            if chosen_recipes and groups:  # Hydra lays the recipe over the files of groups, these as well
                without = hydra_compose(schema.name, given)
                for group, _ in groups:
                    composed[group] = without[group]
    except (OmegaConfBaseException, HydraException) as error:
        raise _explain_hydra(schema, error, recipes, chosen_recipes) from None
    except RecursionError:
        begin = [*(f"recipe/{name}" for name in chosen_recipes), *(f"{group}/{name}" for group, name in groups)]
        raise _explain_recursion(schema, begin, recipes, user_dir) from None
    finally:
        store.repo.pop("recipe", None)
        GlobalHydra.instance().hydra = outer
    return composed


_compose_shipped = cache(_compose_files)


def expand(overrides: Sequence[str]) -> list[list[str]]:
    """Return the combinations of overrides that name several values, such as ``seed=1,2`` or ``optim.lr=choice(1e-3,2e-3)``.

    Raises
    ------
    ConfigError
        For an override that is none, or from which no list of values follows.

    Examples
    --------
    >>> expand(["seed=1,2", "trainer.epochs=3"])
    [['seed=1', 'trainer.epochs=3'], ['seed=2', 'trainer.epochs=3']]
    """
    values: list[list[str]] = []
    for text in overrides:
        if "=" not in text:
            raise ConfigError(f"{text!r}: expected KEY=VALUE, such as seed=1,2")
        sign = "+" if text.startswith("+recipe=") else ""
        key, value = split_assignment(text)
        try:
            values.append([f"{sign}{key}={_one_form(key, one)}" for one in alternatives(value)])
        except ConfigError as error:
            raise ConfigError(f"{key}={error}") from None
    return [list(combination) for combination in itertools.product(*values)]


def _one_form(key: str, value: str) -> str:
    """Return a number as Python writes it, for it names a folder."""
    entry = leaves(TRAINING.type).get(key)
    if entry is None or float not in (entry.type, *typing.get_args(entry.type)) or value.lstrip("+-").isdecimal():
        return value
    try:
        return str(float(value))
    except ValueError:  # refused where it is read
        return value


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
    return sorted(
        path.relative_to(folder).with_suffix("").as_posix()
        for path in folder.rglob("*.yaml")
        if path.is_file() or path.is_dir()
    )


def _user_dir(config_dir: Path | str | None) -> Path | None:
    if config_dir is None:
        return None
    folder = Path(config_dir).expanduser().resolve()
    if not folder.is_dir():
        raise ConfigError(f"--config-dir {config_dir}: no such folder")
    return folder


def _store_recipes(store: Any, recipes: dict[str, Path], chosen: Iterable[str], schema: type) -> None:
    """Give Hydra the chosen recipes, and those that they build on, as a group, wherever their files are.

    A group's folder would otherwise have to be called ``recipe`` and lie among the folders of ``conf/``.
    """
    from omegaconf import OmegaConf

    todo, seen = list(chosen), set(chosen)
    while todo:
        name = todo.pop()
        content = _read_recipe(recipes[name], schema)
        if isinstance(bases := content.get("defaults"), list):  # which Hydra would look for beside the recipe
            built_on = [base for base in bases if isinstance(base, str) and base in recipes]
            content["defaults"] = [f"/recipe/{base}" if base in built_on else base for base in bases]
            todo += [base for base in built_on if base not in seen]
            seen.update(built_on)
        group, _, leaf = f"recipe/{name}".rpartition("/")
        store.store(group=group, name=leaf, node=OmegaConf.create(content), package="_global_", provider="recipes")


def _read_recipe(path: Path, schema: type) -> dict[Any, Any]:
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected a mapping of configuration keys, got {type(content).__name__}")
    for key, entry in leaves(schema).items():
        value: Any = content
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        for element in value if isinstance(value, list) else [value]:
            if entry.holds_text and isinstance(element, bool | int | float | datetime.date):
                raise ConfigError(f"{path}: {key}: YAML reads {element!r} here, which is no text; put it in quotation marks")
    return content


@dataclass(frozen=True)
class _Chosen:
    """What the command line says: recipes, groups' files, and values of keys."""

    recipes: list[str] = field(default_factory=list)
    groups: list[tuple[str, str]] = field(default_factory=list)
    values: list[tuple[str, str | list[str] | None]] = field(default_factory=list)


def _read_overrides(schema: Schema[Any], overrides: Sequence[str], config_dir: Path | str | None) -> _Chosen:
    """Read overrides, and refuse those that name nothing."""
    options, chosen = leaves(schema.type), _Chosen()
    for text in overrides:
        if text.startswith("~"):
            raise ConfigError(f"{text!r}: nothing can be deleted; set {text[1:]} to another value instead")
        if "=" not in text:
            raise ConfigError(f"{text!r}: expected KEY=VALUE, such as name=trial.{nearest(text.lstrip('+'), options)}")
        key, value = split_assignment(text)
        if key == "recipe" and schema.recipes:
            _check_choice(key, unquoted(value), list(list_recipes(config_dir)))
            chosen.recipes.append(unquoted(value))
        elif key in schema.groups:
            _check_choice(key, unquoted(value), list_groups(config_dir, schema)[key])
            chosen.groups.append((key, unquoted(value)))
        elif key in options:
            _check_single(options[key], value)
            chosen.values.append((key, read_value(options[key], value)))
        else:
            known = [*options, *schema.groups, *(["recipe"] if schema.recipes else [])]
            inside = [name for name in options if name.startswith(f"{key}.")]
            hint = f" It holds {', '.join(inside)}." if key in sections(schema.type) else nearest(key, known)
            raise ConfigError(f"unknown key {key} in {text!r}.{hint}")
    return chosen


def _check_single(entry: Option, value: str) -> None:
    """Refuse several values of a number, which only a sweep takes."""
    if not entry.holds_text and not value.startswith("[") and len(split_commas(value)) > 1:
        raise ConfigError(f"{entry.key}={value}: one value is expected; to train with each of these give --multirun")


def _check_choice(group: str, value: str, names: list[str]) -> None:
    if value in names:
        return
    there = ", ".join(names) or "none"
    several = " To train with each of several give --multirun." if len(split_commas(value)) > 1 else ""
    raise ConfigError(f"{group}={value}: there is no such {group}.{nearest(value, names)}{several} There are: {there}")


def _explain_recursion(schema: Schema[Any], begin: list[str], recipes: dict[str, Path], config_dir: Path | None) -> ConfigError:
    """Name the files that build on each other in a circle; those that were chosen are looked at first."""
    groups = [(group, name) for group, names in list_groups(config_dir, schema).items() for name in names]
    files = {f"{group}/{name}": group_file(group, name, config_dir) for group, name in groups}
    files |= {f"recipe/{name}": path for name, path in recipes.items()}
    circle = find_circle([*begin, *files], files)
    if not circle:
        return ConfigError("files of the configuration are nested too deeply, or build on themselves; look at yours")
    if len(circle) == 2:
        return ConfigError(f"{circle[0]}: builds on itself; take that out of its defaults")
    way = ", which builds on ".join(map(str, circle[1:]))
    return ConfigError(
        f"{circle[0]}: builds on {way}; no file can build on itself: take one of these out of another's defaults"
    )


def _explain_hydra(schema: Schema[Any], error: Exception, recipes: dict[str, Path], chosen: Sequence[str]) -> ConfigError:
    """Find the first cause of an error of Hydra, and the file in which it arose."""
    from omegaconf.errors import OmegaConfBaseException

    text = " ".join(str(error).partition("Config search path")[0].split())
    named = [path for name, path in recipes.items() if f"'recipe/{name}'" in text]
    # Hydra does not say which file asked for a group's file that is not there; ours are right, so it was the recipe.
    where = next((f"{path}: " for path in [*named, *(recipes[name] for name in chosen)]), "")
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OmegaConfBaseException):
            return ConfigError(f"{where}{explain(cause, schema.type)}")
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
