"""Recipes are options under a name; a file of them is read with care."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from miaotui.cli.compress import add_arguments
from miaotui.compress.recipe import IN_FILES, MAX_FILE_BYTES, RECIPES, arguments_of, read_recipe
from miaotui.errors import ConfigError


def test_named_recipes_are_there() -> None:
    assert set(RECIPES) == {"small", "balanced", "fast"}
    assert read_recipe("small")["max-kl"] == 0.1


def test_a_file_s_options_become_words(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('method = "search"\nbudget-mb = 300\nadapter = false\nmask = "2:4"\n')
    assert arguments_of(read_recipe(str(path))) == ["--method=search", "--budget-mb=300", "--mask=2:4"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("method = ", "cannot be read"),
        ("[method]\nb = 1", "no option"),
        ("method = [1]", "no option"),
        ("force = true", "not for a recipe"),
        ('"output=/tmp/x" = true', "not for a recipe"),
        ('mix-losses = "/tmp/x"', "not for a recipe"),
        ('outp = "/tmp/x"', "not for a recipe"),
        ('recipe = "small"', "not for a recipe"),
        ("#" * (MAX_FILE_BYTES + 1), "no recipe"),
    ],
)
def test_what_is_no_recipe_is_refused(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=says):
        read_recipe(str(path))


@pytest.mark.parametrize("name", ["tiny", "/nowhere/x.toml"])
def test_an_unknown_recipe_is_refused(name: str) -> None:
    with pytest.raises(ConfigError):
        read_recipe(name)


def test_a_recipe_s_options_are_the_command_s(tmp_path: Path) -> None:
    """But for those that name files, and where and how the output appears."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    options = {
        option[2:]: action for action in parser._actions for option in action.option_strings if option[:2] == "--"
    }
    left_out = {name for name in options if name not in IN_FILES}
    assert set(options) >= IN_FILES
    assert left_out == {
        "help", "output", "force", "recipe", "calibration", "text", "prompts", "prune-text", "mix-text", "mix-losses"
    }  # fmt: skip
    assert all(options[name].type is not Path for name in IN_FILES)
