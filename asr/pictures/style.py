"""How everything that asr draws looks: fonts, sizes, and colours that the colour-blind tell apart as well."""

from __future__ import annotations

FONTS = ("DejaVu Sans", "sans-serif")
"""Families, the first that is there; matplotlib brings the first, and lays out by it."""

FONT_SIZE, SMALL_FONT_SIZE = 9.0, 7.5  # points

WIDTH_IN = 6.6
"""Width of a figure (inches)."""

DPI = 200
"""Dots per inch of what is made of them."""

INK, SOFT, LINE, GROUND = "#1d2330", "#667085", "#d8dde6", "#ffffff"
"""Text; what stands back; rules and grids; the ground."""

BLUE, ORANGE, GREEN, PURPLE, AMBER, SKY = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"
"""Okabe and Ito, "Color Universal Design" (2008), without their yellow, which is lost on white."""

SERIES = (BLUE, ORANGE, GREEN, PURPLE, AMBER, SKY, INK)
"""Colours of lines, in this order."""

MARKERS = ("o", "s", "^", "D", "v")
"""Marks of lines, in this order: with as many colours as this has no divisor in common with, a pair is seldom seen twice."""

SEQUENTIAL = ("#440154", "#46327e", "#365c8d", "#277f8e", "#1fa187", "#4ac16d", "#a0da39", "#fde725")
"""Viridis, at even steps: low values to high ones."""

DIVERGING = ("#2166ac", "#67a9cf", "#d1e5f0", "#f7f7f7", "#fddbc7", "#ef8a62", "#b2182b")
"""Values on both sides of zero."""

DARK_INK, DARK_SOFT, DARK_LINE, DARK_GROUND = "#e8ebf0", "#a3adbd", "#3a4252", "#14171f"
"""The same on a screen that is dark."""

DARK_SERIES = (SKY, "#f08a4b", "#3ecf9f", "#dd9cc0", AMBER, "#8fb8ff", DARK_INK)
"""Colours of lines on a dark ground, in the order of :data:`SERIES`."""
