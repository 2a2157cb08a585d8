"""Recipes are options under a name; a file of them is read with care."""

from __future__ import annotations

from pathlib import Path

import pytest

from miaotui.compress.recipe import MAX_FILE_BYTES, RECIPES, arguments_of, read_recipe
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
        ("[a]\nb = 1", "no option"),
        ("a = [1]", "no option"),
        ("force = true", "not for a recipe"),
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
