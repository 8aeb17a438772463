"""The reliability diagram: whether confidences are what they claim.

DeGroot and Fienberg 1983; Niculescu-Mizil and Caruana 2005.
"""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from asr.pictures.figure import new_figure, styled
from asr.pictures.style import AMBER, BLUE, SOFT

_HEIGHT_IN = 6.8
_HISTOGRAM_BINS = 30


@styled()
def draw_reliability(confidences: np.ndarray, correct: np.ndarray, bins: np.ndarray, *, title: str, caption: str) -> Figure:
    """Draw the diagram.

    Above, each bin's share of right words over its mean confidence, with 95 % intervals: below the diagonal the confidences
    promise too much. Underneath, the numbers of right and wrong words over their confidence.

    Parameters
    ----------
    confidences
        ``(word,)`` in [0, 1].
    correct
        ``(word,)``, whether each word is right.
    bins
        ``(bin, 4)``: mean confidence, share of right words, and the bounds of that share's 95 % confidence interval.
    title, caption
        What was measured, and its figures.
    """
    figure = new_figure(_HEIGHT_IN)
    figure.suptitle(title)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.set_title(caption, color=SOFT)
    upper.plot([0, 1], [0, 1], color=SOFT, linestyle="--", linewidth=1, label="confidence = accuracy")
    if len(bins):
        mean, accuracy, low, high = bins.T
        upper.errorbar(
            mean,
            accuracy,
            yerr=np.maximum([accuracy - low, high - accuracy], 0.0),
            color=BLUE,
            marker="o",
            elinewidth=1,
            capsize=2,
            clip_on=False,
            label="words, 95 % interval",
        )
    upper.set(xlim=(0, 1), ylim=(0, 1), ylabel="share of right words")
    lower.hist(
        [confidences[correct], confidences[~correct]],
        bins=_HISTOGRAM_BINS,
        range=(0, 1),
        stacked=True,
        color=[BLUE, AMBER],
        label=["right words", "wrong words"],
    )
    lower.set(xlabel="confidence", ylabel="number of words")
    lower.set_ylim(0, max(1.0, lower.get_ylim()[1]))
    lower.yaxis.get_major_locator().set_params(integer=True)
    figure.legend(loc="outside lower center", ncols=4)
    return figure
