"""Files of a configuration that build on each other: which ones do so in a circle."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any


def find_circle(begin: Sequence[str], files: Mapping[str, Path]) -> list[Path]:
    """Return files of which each builds on the next, and the last is the first again; none where there is no circle.

    Parameters
    ----------
    begin
        Names of the files that were chosen, as ``group/name``.
    files
        All files by name; recipes are those of the group ``recipe``.
    """
    done: set[str] = set()

    def follow(name: str, way: list[str]) -> list[str]:
        if name in way:
            return [*way[way.index(name) :], name]
        if name in done or name not in files:
            return []
        done.add(name)
        return next((circle for base in _bases(name, files) if (circle := follow(base, [*way, name]))), [])

    circle = next((circle for name in begin if (circle := follow(name, []))), [])
    return [files[name] for name in circle]


def _bases(name: str, files: Mapping[str, Path]) -> Iterator[str]:
    """Yield what a file builds on; Hydra counts names from its folder, recipes may be named from that of all recipes."""
    import yaml

    try:
        content = yaml.safe_load(files[name].read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return  # what cannot be read builds on nothing; it is named where it is used
    defaults = content.get("defaults") if isinstance(content, dict) else None
    for entry in defaults if isinstance(defaults, list) else []:
        for base in _names(entry):
            if base.startswith("/"):
                yield base[1:]
            elif name.startswith("recipe/") and f"recipe/{base}" in files:
                yield f"recipe/{base}"
            else:
                yield f"{name.rpartition('/')[0]}/{base}"


def _names(entry: Any) -> Iterator[str]:
    """Yield the files that an entry names: ``name``, ``group/name``, ``{group: name}`` or ``{group: [name, name]}``."""
    for key, value in entry.items() if isinstance(entry, dict) else [(entry, None)]:
        group = str(key).removeprefix("optional ").partition("@")[0]
        if group.startswith("override "):  # chooses another file for what is there, and adds none
            continue
        yield from [f"{group}/{name}" for name in (value if isinstance(value, list) else [value])] if value else [group]
