"""The schema, its checks, and composition from groups, recipes and overrides."""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path

import pytest
import yaml

from asr.compose import GROUPS, compose, describe, list_groups, list_recipes
from asr.config import Config, conf_dir, options, recipes_dir
from asr.config_checks import validate
from asr.config_mapping import from_mapping, to_yaml
from asr.errors import ConfigError


def test_every_option_is_documented_and_its_default_lies_in_its_range() -> None:
    validate(Config())
    for key, entry in options().items():
        assert entry.field.metadata["doc"], key
        assert entry.type_name, key


def test_units_match_the_names() -> None:
    endings = {"_s": "s", "_hz": "Hz", "_gib": "GiB", "_minutes": "min"}
    for key, entry in options().items():
        for ending, unit in endings.items():
            if key.endswith(ending):
                assert entry.field.metadata["unit"] == unit, key


def test_defaults_of_the_yaml_files_are_those_of_the_schema() -> None:
    assert compose() == from_mapping({})


def test_yaml_round_trip_keeps_every_value() -> None:
    config = compose(["+recipe=synthetic/digits", "frontend.f_max_hz=7600", "tokens.alphabet='ab: #é'"])
    assert from_mapping(yaml.safe_load(to_yaml(config))) == config


def test_values_keep_their_types() -> None:
    config = from_mapping({"frontend": {"f_min_hz": 60}, "optim": {"lr": "2e-3"}})
    assert isinstance(config.frontend.f_min_hz, float)
    assert config.optim.lr == 0.002


@pytest.mark.parametrize("group", GROUPS)
def test_every_file_of_every_group_composes(group: str) -> None:
    names = list_groups()[group]
    assert names
    for name in names:
        assert dataclasses.is_dataclass(getattr(compose([f"{group}={name}"]), group))


@pytest.mark.parametrize("recipe", sorted(list_recipes()))
def test_every_recipe_composes_and_opens_with_its_command(recipe: str) -> None:
    config = compose([f"+recipe={recipe}"])
    assert config.corpus.train
    assert config.corpus.dev
    assert not set(config.corpus.train) & set(config.corpus.dev)
    first = next(line for line in list_recipes()[recipe].read_text().splitlines() if line != "# @package _global_")
    assert re.fullmatch(rf"# .*asr train \+recipe={recipe}\b.*", first)


def test_recipe_lays_over_groups_and_gives_way_to_the_command_line() -> None:
    config = compose(["trainer.epochs=7", "+recipe=synthetic/digits", "model.recurrent.layers=3"])
    assert config.name == "digits"
    assert config.output == "runs/digits"
    assert config.corpus.train == ["synthetic/train"]
    assert config.trainer.epochs == 7
    assert config.model.recurrent.layers == 3
    assert config.model.recurrent.hidden_size == compose(["model=small"]).model.recurrent.hidden_size


@pytest.mark.parametrize("order", [1, -1])
def test_a_group_of_the_command_line_replaces_what_a_recipe_says_of_it(order: int) -> None:
    recipe = compose(["+recipe=librispeech/mini"])
    assert recipe.augment != compose(["augment=none"]).augment
    given = ["+recipe=librispeech/mini", "augment=none", "model=small", "model.recurrent.layers=5", "augment.speed=[0.9]"]
    config = compose(given[::order])
    expected = compose(["augment=none", "model=small", "model.recurrent.layers=5", "augment.speed=[0.9]"])
    assert (config.augment, config.model) == (expected.augment, expected.model)
    assert (config.optim, config.trainer, config.name) == (recipe.optim, recipe.trainer, recipe.name)


def test_plus_signs_are_optional() -> None:
    assert compose(["recipe=synthetic/digits", "++seed=3"]) == compose(["+recipe=synthetic/digits", "seed=3"])


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("sed=5", ["unknown key sed", "Did you mean seed?"]),
        ("+sed=5", ["unknown key sed", "Did you mean seed?"]),
        ("epoch=5", ["Did you mean trainer.epochs?"]),
        ("trainer.epoch=5", ["Did you mean trainer.epochs?"]),
        ("modle=small", ["Did you mean model?"]),
        ("model=smal", ["Did you mean small?", "base, small"]),
        ("+recipe=synthetic/digit", ["Did you mean synthetic/digits?"]),
        ("model.cnn=3", ["unknown key model.cnn", "model.cnn.channels"]),
        ("frontend.kind=logmel", ["frontend.kind=logmel", "Did you mean log_mel?", "mfcc"]),
        ("trainer.epochs=many", ["trainer.epochs", "expected an integer", "many"]),
        ("trainer.epochs=1.5", ["trainer.epochs", "expected an integer"]),
        ("trainer.deterministic=maybe", ["trainer.deterministic", "true or false"]),
        ("seed=null", ["seed", "expected an integer"]),
        ("corpus.train=speech", ["corpus.train", "a list of texts"]),
        ("model.cnn.channels=[8,x,8]", ["model.cnn.channels[1]", "a list of integers"]),
        ("trainer.epochs=0", ["trainer.epochs=0", "1 to 100000"]),
        ("trainer.batch_s=-1", ["trainer.batch_s=-1", "1 to 100000 s"]),
        ("optim.lr=nan", ["optim.lr=nan", "1e-08 to 10"]),
        ("optim.clip_norm=inf", ["optim.clip_norm=inf", "at least 0"]),
        ("augment.speed=[0.9,3]", ["augment.speed=[0.9,3.0]", "0.5 to 2"]),
        ("model.cnn.channels=[8,8]", ["model.cnn", "channels 2", "time_kernels 3"]),
        ("model.cnn.time_kernels=[5,4,3]", ["model.cnn.time_kernels=[5,4,3]", "odd"]),
        ("frontend.f_max_hz=9000", ["frontend.f_max_hz=9000", "8000 Hz"]),
        ("frontend.f_min_hz=8000", ["frontend.f_min_hz=8000", "below"]),
        ("frontend.hop_s=0.05", ["frontend.hop_s=0.05", "frontend.window_s"]),
        ("optim.betas=[0.9]", ["optim.betas=[0.9]", "two"]),
        ("tokens.alphabet=abca", ["tokens.alphabet", "'a' twice"]),
        ("tokens.alphabet=''", ["tokens.alphabet", "empty"]),
        ("name=''", ["name is empty"]),
        ("output=' '", ["output is empty"]),
        ("seed", ["KEY=VALUE"]),
        ("~model", ["deleted"]),
        ("seed=1,2", ["one value"]),
        ("trainer.epochs=a b", ["trainer.epochs", "'a b'"]),
        ("corpus.train=[a", ["corpus.train=[a", "a list of texts"]),
        ("model=small,base", ["no such model", "--multirun"]),
        ("name=${nmae}", ["nmae"]),
    ],
)
def test_wrong_override_is_refused_and_the_message_helps(override: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        compose([override])
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_mfcc_needs_enough_bands() -> None:
    with pytest.raises(ConfigError, match=r"n_mfcc=40: more coefficients than frontend\.n_mels=20"):
        compose(["frontend=mfcc", "frontend.n_mels=20"])


@pytest.mark.parametrize(
    ("mapping", "words"),
    [
        ({"sed": 1}, "unknown key sed. Did you mean seed?"),
        ({"model": {"cnn": {"chanels": [1]}}}, "unknown key model.cnn.chanels. Did you mean model.cnn.channels?"),
        ({"model": 3}, "ModelConfig"),
        ({"seed": "x"}, "seed: expected an integer"),
        ({"seed": -1}, "seed=-1: expected 0 to 4294967295"),
    ],
)
def test_wrong_mapping_is_refused(mapping: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)):
        from_mapping(mapping)


def test_fault_in_a_recipe_names_its_file(tmp_path: Path) -> None:
    file = tmp_path / "recipes" / "mine" / "first.yaml"
    file.parent.mkdir(parents=True)
    for content, words in (
        ("trainer: {epoch: 3}", "unknown key trainer.epoch. Did you mean trainer.epochs?"),
        ("trainer: {epochs: x}", "trainer.epochs: expected an integer"),
        ("defaults: [override /model: smal]", "smal"),
        ("trainer: [", "not readable as YAML"),
        ("- 1", "expected a mapping"),
    ):
        file.write_text(content)
        with pytest.raises(ConfigError, match=re.escape(words)) as caught:
            compose(["+recipe=mine/first"], tmp_path)
        assert str(file) in str(caught.value)


def test_fault_of_a_recipe_that_the_command_line_lies_over_names_its_file(tmp_path: Path) -> None:
    file = tmp_path / "recipes" / "mine.yaml"
    file.parent.mkdir()
    file.write_text("trainer: {epochs: abc}")
    with pytest.raises(ConfigError, match=r"mine\.yaml: trainer\.epochs"):
        compose(["+recipe=mine", "trainer.epochs=3"], tmp_path)


def test_fault_of_the_command_line_names_no_file() -> None:
    with pytest.raises(ConfigError, match=r"^seed: expected an integer"):
        compose(["+recipe=synthetic/digits", "seed=abc"])


@pytest.mark.parametrize(
    ("files", "chosen", "said"),
    [
        ({"recipes/a": "[a, _self_]"}, "+recipe=a", "recipes/a.yaml: builds on itself"),
        ({"recipes/a": "[/recipe/a]"}, "+recipe=a", "recipes/a.yaml: builds on itself"),
        ({"recipes/a": "[/recipe: a]"}, "+recipe=a", "recipes/a.yaml: builds on itself"),
        (
            {"recipes/a": "[b]", "recipes/b": "[c/d, _self_]", "recipes/c/d": "[b]"},
            "+recipe=a",
            "recipes/b.yaml: builds on .*recipes/c/d.yaml, which builds on .*recipes/b.yaml; no file can",
        ),
        ({"model/mine": "[mine]"}, "model=mine", "model/mine.yaml: builds on itself"),
        ({"model/mine": "[mine]", "augment/aa": "[", "augment/ab": "\xff"}, "model=mine", "model/mine.yaml: builds on itself"),
        ({"model/mine": "[" * 3000 + "]" * 3000}, "model=mine", "nested too deeply, or build on themselves"),
    ],
)
def test_files_that_build_on_themselves(files: dict[str, str], chosen: str, said: str, tmp_path: Path) -> None:
    for name, defaults in files.items():
        path = tmp_path / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"defaults: {defaults}\n", encoding="latin-1")
    with pytest.raises(ConfigError, match=said):
        compose([chosen], tmp_path)


def test_what_is_no_file_is_no_recipe(tmp_path: Path) -> None:
    (tmp_path / "recipes").mkdir()
    os.mkfifo(tmp_path / "recipes" / "pipe.yaml")
    (tmp_path / "recipes" / "zero.yaml").symlink_to("/dev/zero")
    for name in ("pipe", "zero"):
        with pytest.raises(ConfigError, match=f"recipe.*{name}"):
            compose([f"+recipe={name}"], tmp_path)


def test_two_recipes_may_build_on_one(tmp_path: Path) -> None:
    (tmp_path / "recipes").mkdir()
    for name, content in {"a": "{defaults: [b, c]}", "b": "{defaults: [d]}", "c": "{defaults: [d]}", "d": "{seed: 5}"}.items():
        (tmp_path / "recipes" / f"{name}.yaml").write_text(content)
    assert compose(["+recipe=a"], tmp_path).seed == 5


def test_own_folder_adds_groups_and_recipes(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "tiny.yaml").write_text("recurrent: {hidden_size: 8}")
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "mine.yaml").write_text("defaults: [override /model: tiny]\nname: mine\n")
    (tmp_path / "recipes" / "longer.yaml").write_text("defaults: [mine]\ntrainer: {epochs: 99}\n")
    (tmp_path / "recipes" / "deep").mkdir()
    (tmp_path / "recipes" / "deep" / "longest.yaml").write_text("defaults: [deep/long, _self_]\nname: longest\n")
    (tmp_path / "recipes" / "deep" / "long.yaml").write_text("defaults: [longer, _self_]\nname: long\n")
    config = compose(["+recipe=longer"], tmp_path)
    assert (config.name, config.model.recurrent.hidden_size, config.trainer.epochs) == ("mine", 8, 99)
    config = compose(["+recipe=deep/longest"], tmp_path)
    assert (config.name, config.model.recurrent.hidden_size, config.trainer.epochs) == ("longest", 8, 99)
    assert "tiny" in describe(tmp_path)
    with pytest.raises(ConfigError, match="no such recipe"):
        compose(["+recipe=mine"])


def test_own_file_may_not_hide_one_of_ours(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "small.yaml").write_text("{}")
    with pytest.raises(ConfigError, match=r"model/small\.yaml: a file of that name comes with asr"):
        compose([], tmp_path)


def test_absent_own_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--config-dir .*absent: no such folder"):
        compose([], tmp_path / "absent")


def test_composition_leaves_another_hydra_application_alone(tmp_path: Path) -> None:
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        outer = GlobalHydra.instance().hydra
        compose(["seed=2"], tmp_path)  # what ships with asr alone may have been composed before
        assert GlobalHydra.instance().hydra is outer


def test_compositions_do_not_change_each_other() -> None:
    one = compose(["seed=2", "model.cnn.channels=[2]", "model.cnn.time_kernels=[3]", "model.cnn.frequency_kernels=[3]",
                   "model.cnn.time_strides=[3]", "model.cnn.frequency_strides=[2]"])  # fmt: skip
    one.augment.volume_db.append(7.0)
    from_mapping({"seed": 3, "frontend": {"n_mels": 20}}).corpus.train.append("a/b")
    assert compose() == from_mapping({})


def test_own_files_are_read_anew_each_time(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    for n_layers in (2, 3):
        (tmp_path / "model" / "mine.yaml").write_text(f"recurrent:\n  layers: {n_layers}\n")
        assert compose(["model=mine"], tmp_path).model.recurrent.layers == n_layers


def test_description_holds_every_key_group_and_recipe() -> None:
    text = describe()
    for word in [*options(), *GROUPS, *list_recipes()]:
        assert word in text


def test_groups_are_few_and_each_has_a_section_and_a_choice() -> None:
    folders = {path.name for path in conf_dir().iterdir() if path.is_dir()} - {"__pycache__"}
    assert folders == {*GROUPS, "lm"}  # lm belongs to the language models' own schema
    assert len(folders) <= 10
    assert all(len(names) > 1 for names in list_groups().values())
    assert recipes_dir().is_dir()
