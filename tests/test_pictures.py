"""What is drawn: legible, the same bytes for the same numbers, whole or not at all, in the format that the ending names."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from asr.errors import ConfigError
from asr.pictures import style
from asr.pictures.error_surface import Axis, Curve, Doublings, Plane, draw_error_surface
from asr.pictures.figure import encode, save, series
from asr.pictures.gradients import draw_gradients
from asr.pictures.reliability import draw_reliability

NOTHING = np.zeros((0, 2))
STEPS = np.linspace(0, 1, 21)


def surface(n_lines: int, *, has_plane: bool = True) -> Figure:
    x, y = Axis("lm_weight", 0, 3), Axis("word_score (nats)", -4, 4)
    wer = 20 + 30 * (STEPS[:, None] - 0.4) ** 2 + 20 * (STEPS - 0.6) ** 2
    part, whole = np.array([[0.0, -4.0], [3.0, 4.0]]), np.array([[1.5, 0.0]])
    plane = Plane(x, y, wer, part, whole, "200 trials on 1000 utterances", "100 trials on 20000 utterances", (1.5, 0.0))
    curve = Curve(Axis("rescore_lm_scale", 0, 1.5), STEPS + 19, STEPS + 20, STEPS + 21, np.array([[0.5, 20.3]]), (0.5, 20.2))
    beams = Doublings("beam", np.array([[12.0, 21.0], [24.0, 20.5], [48.0, 20.2]]), (24.0, 20.4))
    title = "librispeech/dev-clean-a, an4/dev (1000 utterances), beam_ngram: WER 20.20 %"
    lines: list[Curve | Doublings] = [curve] * (n_lines - 1)
    return draw_error_surface(plane if has_plane else None, [*lines, beams][:n_lines], title)


def reliability(n_words: int) -> Figure:
    rng = np.random.default_rng(0)
    correct = rng.random(n_words) < 0.5
    bins = np.array([[0.05, 0.0, 0.0, 0.1], [0.98, 1.0, 0.9, 1.0]])[: n_words // 2]
    caption = "123456 words, 78.9 % right, ECE 12.34 %, AUC 0.987, NCE -0.321"
    return draw_reliability(rng.random(n_words), correct, bins, title="librispeech/dev-clean-a", caption=caption)


def gradients(n_epochs: int, n_layers: int, *, vanished: bool = False) -> Figure:
    layers = [*(f"convolution {number}" for number in range(4)), *(f"recurrent {number}" for number in range(n_layers)), "head"]
    shares = {name: 0.9 ** (300 * STEPS) * (not vanished) for name in layers[4:-1]}
    norms = {name: np.full(n_epochs, 0.0 if vanished else 10.0 ** (number - 3)) for number, name in enumerate(layers)}
    return draw_gradients(range(1, n_epochs + 1), norms, shares, shares)


FIGURES = {
    "surface": lambda: surface(5),
    "surface alone": lambda: surface(0),
    "beam alone": lambda: surface(1, has_plane=False),
    "lines alone": lambda: surface(2, has_plane=False),
    "reliability": lambda: reliability(500),
    "reliability of nothing": lambda: reliability(0),
    "gradients": lambda: gradients(100, 6),
    "gradients of one epoch": lambda: gradients(1, 2),
    "gradients of no recurrent layer": lambda: gradients(3, 0),
    "gradients that vanished": lambda: gradients(2, 2, vanished=True),
}


def texts_of(figure: Figure, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Bbox]]:
    """Return what is written in a figure, and where (pixels)."""
    found = []
    plain = RendererAgg.draw_text

    def note(self, gc, x, y, s, prop, angle, ismath=False, mtext=None):  # type: ignore[no-untyped-def]
        found.append((s, mtext.get_window_extent(self)))
        plain(self, gc, x, y, s, prop, angle, ismath, mtext)

    monkeypatch.setattr(RendererAgg, "draw_text", note)
    FigureCanvasAgg(figure).draw()
    return found


def faults(texts: list[tuple[str, Bbox]], figure: Figure) -> list[str]:
    """Name what is cut off, or written over."""
    width, height = figure.bbox.size
    cut = [text for text, box in texts if box.x0 < 0 or box.y0 < 0 or box.x1 > width or box.y1 > height]
    pairs = itertools.combinations(texts, 2)
    return cut + [f"{one} over {other}" for (one, first), (other, second) in pairs if Bbox.intersection(first, second)]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", FIGURES)
def test_nothing_is_cut_off_or_written_over(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    figure = FIGURES[name]()
    texts = texts_of(figure, monkeypatch)
    assert len(texts) > 4
    assert faults(texts, figure) == []


def test_what_is_cut_off_or_written_over_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    figure = reliability(4)
    figure.text(0.5, 0.001, "low", va="top")
    figure.text(0.3, 0.5, "one")
    figure.text(0.3, 0.5, "other")
    assert faults(texts_of(figure, monkeypatch), figure) == ["low", "one over other"]


@pytest.mark.parametrize(
    ("ending", "start"), [(".svg", b"<?xml"), (".png", b"\x89PNG"), (".pdf", b"%PDF"), (".PNG", b"\x89PNG")]
)
def test_the_ending_names_the_format(ending: str, start: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"picture{ending}"
    save(reliability(4), path)
    assert path.read_bytes().startswith(start)
    assert path.read_bytes() == encode(reliability(4), ending.lower())


@pytest.mark.parametrize("name", ["picture.jpgg", "picture"])
def test_other_endings_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"pictures end in \.svg, \.png, \.pdf, not (\.jpgg|nothing)"):
        save(reliability(4), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_picture_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "picture.svg"
    path.write_bytes(b"before")
    monkeypatch.setattr(Figure, "savefig", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save(reliability(4), path)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"before"]


def lightness(colour: str, matrix: np.ndarray) -> np.ndarray:
    """CIELAB of a colour as seen through a matrix on linear RGB."""
    srgb = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = to_xyz @ np.clip(matrix @ linear, 0, 1) / [0.9505, 1.0, 1.089]
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


# Machado, Oliveira and Fernandes 2009, severity 1.0.
SIGHT = {
    "usual": np.eye(3),
    "protanopia": np.array([[0.1523, 1.0526, -0.2049], [0.1145, 0.7863, 0.0992], [-0.0039, -0.0481, 1.0520]]),
    "deuteranopia": np.array([[0.3673, 0.8606, -0.2280], [0.2801, 0.6725, 0.0474], [-0.0118, 0.0429, 0.9689]]),
    "tritanopia": np.array([[1.2555, -0.0767, -0.1788], [-0.0784, 0.9308, 0.1476], [0.0047, 0.6914, 0.3039]]),
}


@pytest.mark.parametrize("sight", SIGHT)
def test_colours_are_told_apart_by_everyone(sight: str) -> None:
    seen = [lightness(colour, SIGHT[sight]) for colour in (*style.SERIES, style.GROUND)]
    nearest = min(float(np.linalg.norm(one - other)) for one, other in itertools.combinations(seen, 2))
    assert nearest > 10  # a just noticeable difference is about 2


@pytest.mark.parametrize("sight", SIGHT)
def test_a_sequence_of_colours_grows_lighter_for_everyone(sight: str) -> None:
    assert (np.diff([lightness(colour, SIGHT[sight])[0] for colour in style.SEQUENTIAL]) > 3).all()


def test_lines_differ_in_colour_or_mark() -> None:
    looks = [tuple(series(number).values()) for number in range(len(style.SERIES) * len(style.MARKERS))]
    assert len(set(looks)) == len(looks)
