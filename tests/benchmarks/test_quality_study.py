"""The study of variants: its options are valid, and its table has medians, ranges and dead generators."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from gan.settings import TrainingSettings
from launcher.train_cli import train
from scaling.records import RecordError
from tests.benchmarks import quality_study as study
from tests.support.sample_runs import end, epoch, header, write

VALIDATION = {
    "shower_distance": 0.1,
    **{f"profile_l1_{axis}": 0.2 for axis in "xyz"},
    **{f"width_error_{axis}": error for axis, error in zip("xyz", (0.1, -0.3, 0.2), strict=True)},
    "sampling_fraction_error/10-108": 0.05,
    "sampling_fraction_error/108-206": -0.15,
    "active_cells": 0.2,
    "active_cells_real": 0.1,
    "hits": 450.0,
    "hits_real": 900.0,
}


def test_the_table_has_medians_ranges_and_dead_generators(tmp_path: Path) -> None:
    warning = "dead generator since epoch 1, step 3: no output"
    for seed, distance, warnings in ((1, 0.1, []), (2, 0.3, [warning]), (3, 0.2, [])):
        last = {**VALIDATION, "shower_distance": distance}
        write(tmp_path / str(seed), header(), epoch(1, validation=last, warnings=warnings), end(1))
    runs = [study.figures(tmp_path / str(seed)) for seed in (1, 2, 3)]
    (row,) = study.rows({"default": runs})
    assert row == {
        "variant": "default",
        "died": "1 of 3",
        "shower distance": "0.20 (0.10-0.30)",
        **{f"L1 {axis}": "0.20 (0.20-0.20)" for axis in "xyz"},
        "energy, worst bin": "0.15 (0.15-0.15)",
        "active cells": "2.00 (2.00-2.00)",
        "hits": "0.50 (0.50-0.50)",
        "widths, worst": "0.30 (0.30-0.30)",
    }


def test_a_run_without_record_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RecordError):
        study.figures(tmp_path)


WORKERS = tuple(study.workers_study([1, 256], ["none", "sqrt", "linear"], [0, 1]))


def test_variants_have_different_names() -> None:
    names = [variant.name for variant in (*study.RECIPES, *WORKERS)]
    assert len(WORKERS) == 12
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("variant", [*study.RECIPES, *WORKERS], ids=lambda variant: variant.name)
def test_options_are_valid(variant: study.Variant) -> None:
    chosen = train.make_context("train", list(variant.options)).params
    names = {field.name for field in dataclasses.fields(TrainingSettings)}
    settings = TrainingSettings.of(**{name: value for name, value in chosen.items() if name in names})
    for option, value in zip(variant.options[::2], variant.options[1::2], strict=True):
        assert str(getattr(settings, option.lstrip("-").replace("-", "_"))) in (value, f"{value}.0")
