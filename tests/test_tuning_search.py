"""The search for a decoder's settings: its keys, its model of the error rate, the optima it finds, and their picture."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from typing import Any

import matplotlib.image
import numpy as np
import pytest

from asr.config import DecodingConfig, options
from asr.errors import ConfigError
from asr.scoring.counts import Counts
from asr.scoring.score import score
from asr.tuning import Key, Trial, Tuning, searched_keys
from asr.tuning import keys as keys_module
from asr.tuning.objective import Decoded
from asr.tuning.picture import draw
from asr.tuning.search import Search
from asr.tuning.summary import at_the_ends
from asr.tuning.surface import Surface
from asr.tuning.surrogate import GaussianProcess, spread

N_WORDS, N_WORDS_ON_PART = 9000, 2500


# --- keys


def names(config: DecodingConfig, wanted: tuple[str, ...] = (), fixed: tuple[str, ...] = ()) -> list[str]:
    return [key.name for key in searched_keys(config, wanted, fixed)]


def test_keys_are_those_that_change_what_the_decoder_writes() -> None:
    assert names(DecodingConfig()) == ["blank_penalty", "prior_weight"]
    assert names(DecodingConfig(kind="beam")) == ["blank_penalty", "prior_weight", "beam"]
    ngram = DecodingConfig(kind="beam_ngram", lm="x")
    assert names(ngram) == ["lm_weight", "word_score", "blank_penalty", "prior_weight", "beam"]
    assert names(ngram, fixed=("beam", "lm_weight")) == ["word_score", "blank_penalty", "prior_weight"]
    ngram.lexicon = False
    assert "unknown_score" in names(ngram)
    for kind in ("rescore", "fusion"):
        both = names(DecodingConfig(kind=kind, lm="x", lstm="y"))
        assert ("rescore_lm_scale" in both) == (kind == "rescore")
        without = [name for name in both if name != "rescore_lm_scale"]
        assert without == ["lstm_weight", *names(DecodingConfig(kind="beam_ngram", lm="x"))]
        assert names(DecodingConfig(kind=kind, lstm="y"))[:3] == ["lstm_weight", "word_score", "blank_penalty"]
    assert "unknown_score" in names(DecodingConfig(kind="fusion", lstm="y", lexicon=False))


def test_every_kind_of_decoder_has_keys() -> None:
    kinds = options()["decoding.kind"].field.metadata["choices"]
    assert set(kinds) <= set(keys_module._KINDS)


def test_chosen_keys_and_ranges() -> None:
    config = DecodingConfig(kind="beam_ngram", lm="x")
    (weight, beam) = searched_keys(config, ["decoding.beam", "decoding.lm_weight=0.2:3"], ["beam"])
    assert (weight.name, weight.low, weight.high) == ("lm_weight", 0.2, 3.0)
    assert beam.name == "beam"


@pytest.mark.parametrize(
    ("kind", "item", "words"),
    [
        ("beam_ngram", "decoding.lm_weight=3:0.2", ("upside down", "0.2:3")),
        ("beam_ngram", "decoding.lm_weight=1:1", ("empty",)),
        ("beam_ngram", "decoding.lm_weigth=0:1", ("unknown key", "Did you mean decoding.lm_weight?")),
        ("beam_ngram", "lm_weight=0:1", ("unknown key lm_weight", "decoding.lm_weight")),
        ("beam_ngram", "decoding.lm_weight=0-1", ("two numbers with a colon",)),
        ("beam_ngram", "decoding.lm_weight=0:1:2", ("two numbers with a colon",)),
        ("beam_ngram", "decoding.lm_weight=-1:1", ("decoding.lm_weight=-1", "0 to 100")),
        ("beam_ngram", "decoding.lm_weight=nan:1", ("decoding.lm_weight=nan", "0 to 100")),
        ("beam_ngram", "decoding.beam=1.5:4", ("1.5 is not an integer",)),
        ("beam_ngram", "decoding.kind=0:1", ("not searched", "decoding.word_score")),
        ("greedy", "decoding.lm_weight=0:1", ("not searched with decoding.kind=greedy", "decoding.blank_penalty")),
    ],
)
def test_bad_ranges_are_refused(kind: str, item: str, words: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as error:
        searched_keys(DecodingConfig(kind=kind, lm="x"), [item], [])
    assert all(word in str(error.value) for word in ("--keys", *words)), str(error.value)


def test_nothing_to_tune_and_keys_named_twice_are_refused() -> None:
    with pytest.raises(ConfigError, match="nothing is left"):
        searched_keys(DecodingConfig(), [], ["blank_penalty", "prior_weight"])
    with pytest.raises(ConfigError, match="twice"):
        searched_keys(DecodingConfig(), ["decoding.prior_weight", "decoding.prior_weight=0:1"], [])


def test_values_are_round_and_stay_inside() -> None:
    weight, beam = Key("lm_weight", 0.2, 3.0), Key("beam", 12, 200)
    assert weight.value(0.0) == 0.2
    assert weight.value(1.0) == 3.0
    assert weight.value(0.5) == 1.6
    assert weight.value(1 / 3) == 1.13
    assert weight.share(1.6) == pytest.approx(0.5)
    assert beam.value(0.1) == 31.0
    assert [weight.rounded(-5.0), beam.rounded(1000.0)] == [0.2, 200.0]


# --- the Gaussian process


def matern(distance: float) -> float:
    """Rasmussen and Williams 2006, equation 4.17."""
    scaled = math.sqrt(5) * distance
    return (1 + scaled + scaled**2 / 3) * math.exp(-scaled)


def test_prediction_follows_the_equations() -> None:
    points, values = np.array([[0.1], [0.4], [0.9]]), np.array([1.0, 0.2, 0.7])
    process = GaussianProcess.fit(points, values)
    (length,), noise, new = process.lengths, process.noise, 0.55
    covariance = np.array([[matern(abs(a - b) / length) for b in points[:, 0]] for a in points[:, 0]]) + noise * np.eye(3)
    inverse = np.linalg.inv(covariance)
    cross = np.array([matern(abs(new - a) / length) for a in points[:, 0]])
    mean = np.ones(3) @ inverse @ values / (np.ones(3) @ inverse @ np.ones(3))
    variance = (values - mean) @ inverse @ (values - mean) / 3
    found, deviation = process.predict(np.array([[new]]))
    assert found[0] == pytest.approx(mean + cross @ inverse @ (values - mean))
    assert deviation[0] == pytest.approx(math.sqrt(variance * (1 - cross @ inverse @ cross)))


def test_lengths_tell_which_dimension_matters() -> None:
    points = spread(40, 2)
    process = GaussianProcess.fit(points, np.sin(6 * points[:, 0]))
    assert process.lengths[0] < 1.0 < process.lengths[1]
    new = np.array([[0.33, 0.5], [0.77, 0.2]])
    assert process.predict(new)[0] == pytest.approx(np.sin(6 * new[:, 0]), abs=0.03)


def test_expected_improvement_is_the_mean_of_what_may_come() -> None:
    rng = np.random.default_rng(0)
    points = spread(8, 1)
    process = GaussianProcess.fit(points, (points[:, 0] - 0.6) ** 2 + 0.05 * rng.standard_normal(8))
    new = np.array([[0.3], [0.62], [0.95]])
    mean, deviation = process.predict(new)
    lowest = process.predict(points)[0].min()
    drawn = mean + deviation * rng.standard_normal((400_000, 3))
    expected = np.maximum(lowest - drawn, 0).mean(axis=0)
    assert process.expected_improvement(new) == pytest.approx(expected, rel=0.02, abs=1e-6)


@pytest.mark.parametrize("n_keys", [1, 2, 4])
def test_spread_points_fill_the_space(n_keys: int) -> None:
    points = spread(1000, n_keys)
    assert points.shape == (1000, n_keys)
    counts = [np.histogram(column, bins=10, range=(0, 1))[0] for column in points.T]
    assert all(90 <= count <= 110 for column in counts for count in column)
    if n_keys == 2:  # as many points as a grid has fields hit most of them; points at random would hit 63
        assert len({tuple((10 * point).astype(int)) for point in points[:100]}) > 75


# --- the search

KEYS = [Key("lm_weight", 0, 3), Key("word_score", -4, 4), Key("blank_penalty", -1, 4), Key("beam", 12, 200)]
START = {"lm_weight": 1.0, "word_score": 0.0, "blank_penalty": 0.0, "beam": 50.0}


class Simulated:
    """Trials of a decoder whose best settings are known; word score and language weight pull together, as they do."""

    def __init__(self, noise: float = 0.0, beam_cost: Callable[[float], float] = lambda beam: 0.0) -> None:
        self.optimum = {"lm_weight": 1.6, "word_score": 1.5, "blank_penalty": 1.0}
        self.beam_cost = beam_cost
        self.noise, self.random = noise, np.random.default_rng(7)
        self.n = 0

    def rate(self, settings: dict[str, float]) -> float:
        x, y, z = (settings.get(name, best) - best for name, best in self.optimum.items())
        worse = 0.4 * x**2 + 0.04 * (y - 1.2 * x) ** 2 + 0.05 * z**2
        return min(1.0, 0.3 * (1 + worse) + self.beam_cost(settings.get("beam", 50.0)))

    def __call__(self, settings: Any, whole: bool) -> Trial:
        self.n += 1
        n_words = N_WORDS if whole else N_WORDS_ON_PART
        rate = self.rate(settings) * (1.0 if whole else 1.08)  # the part is a little harder
        errors = round(n_words * rate + self.noise * math.sqrt(n_words) * self.random.standard_normal())
        counts = Counts(errors, 0, 0, n_words)
        return Trial(self.n, dict(settings), whole, 10, 60.0, counts, counts, 1.0, "simulated")


def run(simulated: Simulated, keys: list[Key] = KEYS, **changes: Any) -> Search:
    search = Search(keys, START, simulated, **{"n_trials": 50, "seed": 1, "has_part": True, **changes})
    search.run()
    return search


@pytest.mark.parametrize("noise", [0.0, 0.2])
@pytest.mark.parametrize("has_part", [True, False])
@pytest.mark.parametrize("seed", [1, 2])
def test_the_optimum_is_found(noise: float, has_part: bool, seed: int) -> None:
    simulated = Simulated(noise)
    search = run(simulated, seed=seed, has_part=has_part)
    assert simulated.rate(START) > 0.36
    assert simulated.rate(dict(search.best.settings)) < 0.307
    assert search.best.whole
    assert len(search.trials) <= 50
    assert has_part == any(not trial.whole for trial in search.trials)


def test_the_same_seed_tries_the_same() -> None:
    one, two, other = (run(Simulated(0.1), seed=seed).trials for seed in (3, 3, 4))
    assert one == two
    assert one != other


@pytest.mark.parametrize("n_trials", [1, 2, 3, 7, 20])
def test_trials_are_bounded_and_one_is_of_everything(n_trials: int) -> None:
    search = run(Simulated(0.3), n_trials=n_trials)
    assert len(search.trials) <= n_trials
    assert search.n_trials == len(search.trials)
    assert search.best.whole


def test_a_search_that_can_gain_nothing_ends_early() -> None:
    simulated = Simulated()
    simulated.rate = lambda settings: 0.5  # type: ignore[method-assign]
    search = run(simulated)
    assert len(search.trials) < 30


def test_equal_errors_are_told_apart_by_characters_and_then_by_weight() -> None:
    def trial(number: int, weight: float, characters: int) -> Trial:
        counts = Counts(10, 0, 0, 100), Counts(characters, 0, 0, 500)
        return Trial(number, {"lm_weight": weight}, True, 1, 1.0, *counts, 1.0, "x")

    trials = [trial(1, 2.0, 30), trial(2, 1.0, 31), trial(3, 1.5, 30), trial(4, 0.5, 40)]
    search = Search(KEYS[:1], START, lambda *_: trials[0], n_trials=5, seed=1, has_part=False)
    search.trials.extend(trials)
    assert search.best.number == 3


@pytest.mark.parametrize(
    ("costs", "best"),
    [
        ({12: 0.05, 25: 0.02, 50: 0.0, 100: 0.0, 200: 0.0}, 50),
        ({12: 0.05, 25: 0.0009, 50: 0.0, 100: 0.0, 200: 0.0}, 25),
        ({12: 0.0, 25: 0.0, 50: 0.0, 100: 0.0, 200: 0.0}, 12),
        ({12: 0.3, 25: 0.2, 50: 0.1, 100: 0.05, 200: 0.0}, 200),
        ({12: 0.3, 25: 0.2, 50: 0.1, 100: 0.0009, 200: 0.0}, 100),
    ],
)
def test_the_smallest_beam_that_costs_next_to_nothing_is_taken(costs: dict[int, float], best: int) -> None:
    search = run(Simulated(beam_cost=lambda beam: costs[round(beam)]))
    assert search.best.settings["beam"] == best
    alone = run(Simulated(beam_cost=lambda beam: costs[round(beam)]), n_trials=5, keys=[Key("beam", 12, 200)])
    assert alone.best.settings == {"beam": best}


def test_the_surface_is_on_the_level_of_all_utterances() -> None:
    simulated = Simulated()
    search = run(simulated)
    surface = Surface.fit(search.trials, KEYS[:3], True, search.best.settings["beam"])
    for settings in (START, {**simulated.optimum, "beam": 50.0}):
        shares = np.array([[key.share(settings[key.name]) for key in KEYS[:3]]])
        assert surface.wer(shares)[0] == pytest.approx(simulated.rate(settings), rel=0.03)
        assert surface.wer(shares, -1)[0] <= surface.wer(shares)[0] <= surface.wer(shares, 1)[0]


def tuning(search: Search) -> Tuning:
    decoded = Decoded(score({"1": ""}, {"1": ""}), {}, "simulated", 1.0)
    return Tuning(DecodingConfig(), tuple(search.keys), tuple(search.trials), search.best, decoded, False)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("keys", [KEYS, KEYS[:2], KEYS[2:], KEYS[2:3], KEYS[3:], [*KEYS[:3], Key("prior_weight", 0, 1)]])
def test_a_picture_of_any_keys(keys: list[Key]) -> None:
    start = {**START, "prior_weight": 0.0}
    search = Search(keys, start, Simulated(0.1), n_trials=20, seed=1, has_part=len(keys) > 1)
    search.run()
    found = tuning(search)
    drawn = draw(found, "title")
    assert drawn == draw(found, "title")
    width, height = (int.from_bytes(drawn[place : place + 4], "big") for place in (16, 20))  # of the PNG's header
    n_lines = len(keys) - 2 if len(keys) - ("beam" in [key.name for key in keys]) >= 2 else len(keys)
    n_rows = math.ceil(n_lines / 3)
    assert width == 1320
    assert height == pytest.approx(200 * (0.4 + 4.4 * (n_lines < len(keys)) + 2.3 * n_rows), abs=2)
    plane = matplotlib.image.imread(io.BytesIO(drawn))
    assert len(np.unique(plane.reshape(-1, plane.shape[2]), axis=0)) > 10


def test_equal_trials_make_a_picture() -> None:
    simulated = Simulated()
    simulated.rate = lambda settings: 0.0  # type: ignore[method-assign]
    assert draw(tuning(run(simulated, n_trials=8)), "title").startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("value", "beam", "named"),
    [(0.0, 50.0, []), (3.0, 50.0, ["lm_weight=3 "]), (1.0, 200.0, ["beam=200 "]), (1.0, 12.0, []), (1.0, 100.0, [])],
)
def test_best_values_at_the_end_of_their_range_are_named(value: float, beam: float, named: list[str]) -> None:
    keys = [KEYS[0], KEYS[3]]
    search = Search(keys, {"lm_weight": value, "beam": beam}, Simulated(), n_trials=1, seed=1, has_part=False)
    search.run()
    lines = at_the_ends(tuning(search))
    assert len(lines) == len(named)
    assert all(part in line and "--keys decoding." in line for part, line in zip(named, lines, strict=True))
