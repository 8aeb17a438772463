"""The report of an evaluation or a comparison: a page that stands alone, and asks nothing of a network.

Its parts are ``report.html``, ``report.css`` and four scripts: charts, the words of an utterance side by side, the table of
utterances, and sound.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from asr.output import to_json
from asr.pictures import style

_SCRIPTS = ("report_charts.js", "report_alignment.js", "report_table.js", "report_sound.js")


def fill_report(content: Mapping[str, Any], sounds: Mapping[int, str] | None = None) -> str:
    """Return the page.

    Parameters
    ----------
    content
        ``title``, ``notes``, ``systems`` with error rates, groups and confusions, ``differences``, ``labels`` of groups,
        ``curves``, and ``utterances``, a list a column: see :mod:`asr.scoring.report`.
    sounds
        MP3 files in Base64, by the position of their utterance.
    """
    look = {"n_colours": len(style.SERIES), "sequential": style.SEQUENTIAL}
    # "<" cannot end the script element, nor begin a comment in it.
    data = to_json({**look, **content}, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    lines = [f'<script type="text/plain" id="sound-{place}">{sound}</script>' for place, sound in (sounds or {}).items()]
    parts = {
        "/*STYLE*/": _colours() + _part("report.css"),
        "/*SCRIPT*/": "".join(map(_part, _SCRIPTS)),
        "/*SOUNDS*/": "\n".join(lines),
        "/*DATA*/": data,  # last: what is in it is not looked at again
    }
    page = _part("report.html")
    for mark, text in parts.items():
        page = page.replace(mark, text, 1)
    return page


def _part(name: str) -> str:
    return files("asr.pictures").joinpath(name).read_text(encoding="utf-8")


def _colours() -> str:
    """Return the colours as variables, for light and dark surroundings."""
    fonts = ", ".join(f'"{font}"' if " " in font else font for font in style.FONTS)
    light = _variables(style.INK, style.SOFT, style.LINE, style.GROUND, style.SERIES)
    dark = _variables(style.DARK_INK, style.DARK_SOFT, style.DARK_LINE, style.DARK_GROUND, style.DARK_SERIES)
    return (
        f":root {{ color-scheme: light dark; --fonts: {fonts}; {light} }}\n"
        f"@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n"
    )


def _variables(ink: str, soft: str, line: str, ground: str, series: Sequence[str]) -> str:
    named = {"ink": ink, "soft": soft, "line": line, "ground": ground}
    named |= {f"series-{place}": colour for place, colour in enumerate(series)}
    named |= {"green": series[2], "purple": series[3], "amber": series[4]}
    return " ".join(f"--{name}: {colour};" for name, colour in named.items())
