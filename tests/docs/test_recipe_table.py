"""The table of recipes in docs/training.md has the values that the program uses."""

from __future__ import annotations

from collections.abc import Iterator

from gan.models.conv3d import CONV3D
from gan.models.registry import ARCHITECTURES
from gan.settings import TrainingSettings
from tests.support.environment import ROOT

COLUMNS = (("conv3d", "default"), ("conv2d", "default"), ("conv3d", "stampede2"), ("conv2d", "rehm2021"))


def expected_rows() -> Iterator[str]:
    recipes = [TrainingSettings.of(model=model, recipe=name) for model, name in COLUMNS]
    for field in (*CONV3D.recipes["stampede2"].values, "lr_decay"):
        values = " | ".join(str(getattr(recipe, field)) for recipe in recipes)
        yield f"| `--{field.replace('_', '-')}` | {values} |"


def test_table_shows_the_values_of_all_recipes() -> None:
    assert {(each.name, name) for each in ARCHITECTURES.values() for name in each.recipes} == set(COLUMNS)
    text = (ROOT / "docs" / "training.md").read_text()
    table = text.partition("| option | default of conv3d |")[2].partition("\n\n")[0].splitlines()[2:]
    assert table == list(expected_rows())
