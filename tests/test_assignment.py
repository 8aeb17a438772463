"""The one grammar of ``KEY=VALUE``: text is text, whatever it looks like."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asr.assignment import alternatives, quote, read_value, split_commas, unquoted
from asr.commands.overrides import with_overrides
from asr.compose import compose, expand
from asr.config import Config, options
from asr.errors import ConfigError

ODD = [
    "~",
    "a: b",
    "jürgen",
    "runs/a(1)",
    "dä ta",
    "it's",
    "a=b",
    "x{y}",
    "a, b",
    "[a",
    "no",
    "1e3",
    "007",
    "null!",
    "#1",
    "a\\",
]
ODD += ["~", "日本"]


@given(st.text(max_size=12))
@example("a\\")
@example("\\'")
def test_quoting_is_undone(text: str) -> None:
    assert unquoted(quote(text)) == text
    assert [unquoted(part) for part in split_commas(f"{quote(text)}, b,{quote(text)}")] == [text, "b", text]


@pytest.mark.parametrize("text", ODD)
def test_names_and_paths_are_taken_as_they_are(text: str) -> None:
    config = compose([f"name={text}", f"corpus.manifests={text}", f"output={text}"])
    assert (config.name, config.corpus.manifests, config.output) == (text, text, text)
    assert compose([f"name={text}"]).output == f"runs/{text}"
    assert compose([f"corpus.train=[a/b, {quote(text)}]"]).corpus.train == ["a/b", text]
    assert expand([f"name={quote(text)},b"]) == [[f"name={quote(text)}"], ["name=b"]]


def test_settings_that_no_yaml_could_keep_are_refused() -> None:
    name = os.fsdecode(b"caf\xe9")
    for key in ("output", "corpus.manifests", "decoding.lm"):
        with pytest.raises(ConfigError, match=rf"{key}='caf.*is not UTF-8.*rename it"):
            compose([f"{key}={name}"])
    with pytest.raises(ConfigError, match=r"corpus\.train=.*is not UTF-8"):
        compose([f"corpus.train=[a/b,{name}]"])


def test_hot_words_are_texts_in_every_command() -> None:
    typed, words = "decoding.hot_words=[no,on,1e3,new york:2,'a, b',\"q\"]", ["no", "on", "1e3", "new york:2", "a, b", "q"]
    assert compose([typed]).decoding.hot_words == with_overrides(Config(), [typed]).decoding.hot_words == words
    assert with_overrides(Config(), [typed.removeprefix("decoding.")]).decoding.hot_words == words
    assert with_overrides(Config(), ["kind=beam", "beam=7", "log_add=no", "lm=null"]).decoding.beam == 7


@pytest.mark.parametrize(
    ("typed", "read"), [("null", None), ("'null'", "null"), ("", ""), ("' a '", " a "), ("'a' or 'b'", "'a' or 'b'")]
)
def test_what_quotation_marks_keep(typed: str, read: str | None) -> None:
    assert read_value(options()["decoding.lm"], typed) == read


@pytest.mark.parametrize(
    ("typed", "values"),
    [
        ("1,2", ["1", "2"]),
        ("choice(1,2)", ["1", "2"]),
        ("range(1,8,3)", ["1", "4", "7"]),
        ("range(2)", ["0", "1"]),
        ("[8,8],[16,16]", ["[8,8]", "[16,16]"]),
        ("[8,8]", ["[8,8]"]),
        ("'a,b',c", ["'a,b'", "c"]),
        ("", [""]),
    ],
)
def test_alternatives(typed: str, values: list[str]) -> None:
    assert alternatives(typed) == values


@pytest.mark.parametrize("typed", ["interval(1,2)", "choice()", "range(3,1)", "range(a)", "range(1,9,0)", "range(1000000000)"])
def test_what_lists_nothing(typed: str) -> None:
    with pytest.raises(ConfigError) as caught:
        expand([f"seed={typed}"])
    assert f"seed={typed}" in str(caught.value)


def test_folders_of_a_sweep_are_named_by_numbers() -> None:
    assert expand(["optim.lr=1e-3,2", "name=1e-3"]) == [["optim.lr=0.001", "name=1e-3"], ["optim.lr=2", "name=1e-3"]]


@pytest.mark.parametrize("name", ["ü '(=,", "a(1) [b]", os.fsdecode(b"caf\xe9")])
def test_own_folder_and_files_of_any_name(name: str, tmp_path: Path) -> None:
    (tmp_path / name / "model").mkdir(parents=True)
    (tmp_path / name / "model" / f"{name}.yaml").write_text("recurrent: {hidden_size: 8}")
    (tmp_path / name / "recipes").mkdir()
    (tmp_path / name / "recipes" / f"{name}.yaml").write_text("seed: 9")
    config = compose([f"model={name}", f"+recipe={name}"], tmp_path / name)
    assert (config.model.recurrent.hidden_size, config.seed) == (8, 9)


def test_a_broken_recipe_is_in_the_way_of_those_alone_that_use_it(tmp_path: Path) -> None:
    recipes = tmp_path / "recipes"
    recipes.mkdir()
    (recipes / "broken.yaml").write_text("trainer: [")
    (recipes / "folder.yaml").mkdir()
    (recipes / "whole.yaml").write_text("defaults: [base, _self_]\nseed: 9")
    (recipes / "base.yaml").write_text("name: b")
    (recipes / "built.yaml").write_text("defaults: [broken, _self_]")
    assert compose(["+recipe=whole"], tmp_path).seed == 9
    assert compose(["seed=3"], tmp_path).seed == 3
    for name in ("broken", "built"):
        with pytest.raises(ConfigError, match=r"broken\.yaml: not readable as YAML"):
            compose([f"+recipe={name}"], tmp_path)
    with pytest.raises(ConfigError, match=r"folder\.yaml: cannot be read"):
        compose(["+recipe=folder"], tmp_path)


@pytest.mark.parametrize("said", ["name: no", "name: 007", "decoding: {hot_words: [yes, a]}", "output: 2024-01-01"])
def test_what_yaml_takes_for_no_text_is_refused(said: str, tmp_path: Path) -> None:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "mine.yaml").write_text(said)
    with pytest.raises(ConfigError, match=r"mine\.yaml: .* is no text; put it in quotation marks"):
        compose(["+recipe=mine"], tmp_path)
