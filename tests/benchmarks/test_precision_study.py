"""Tests of the precision study: its conclusions from given trainings, and the continuation of an interrupted study."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tests.benchmarks import precision_study as study
from tests.benchmarks.precision_comparison import (
    FIGURES,
    Cell,
    curve,
    differences,
    shape_distance,
    table,
    verdict,
)

FLAT = [[1 / 25] * 25] * 3
PLAN = study.Plan(
    steps=2, seeds=[1, 2], precisions=["fp32", "bf16"], events=16, held_out=8, seconds_per_step={"fp32": 1, "bf16": 1}
)


def cell(seed: int, precision: str, value: float, **others: float) -> Cell:
    figures = {**dict.fromkeys(FIGURES, value), **others}
    losses = [[value, value + step] for step in range(8)]
    profile = np.full((3, 25), 1 / 25) + np.linspace(-0.001, 0.001, 25) * seed
    return Cell(
        seed=seed, precision=precision, losses=losses, profiles=profile.tolist(), fractions=[0.02] * 5,
        figures=figures, seconds_per_step=1.0,
    )  # fmt: skip


def study_of(bf16: list[float], **others: list[float]) -> list[Cell]:
    """Return cells of up to four seeds with FP32 figures 1 to 4, and BF16 figures that differ by the given values."""
    cells = []
    for seed, shift in enumerate(bf16, start=1):
        cells.append(cell(seed, "fp32", float(seed)))
        shifted = {name: seed + values[seed - 1] for name, values in others.items()}
        cells.append(cell(seed, "bf16", seed + shift, **shifted))
    return cells


def test_differences_are_taken_seed_by_seed() -> None:
    paired = differences(study_of([0.1, -0.1, 0.3, 0.1]))
    assert [each.figure for each in paired] == list(FIGURES)
    first = paired[0]
    assert first.values == pytest.approx((0.1, -0.1, 0.3, 0.1))
    expected = stats.ttest_1samp([0.1, -0.1, 0.3, 0.1], 0).confidence_interval(0.95)
    assert (first.low, first.high) == pytest.approx(tuple(expected))
    assert first.spread == pytest.approx(np.std([1, 2, 3, 4], ddof=1))
    assert not first.resolved
    # A seed that is complete in one precision only does not count.
    assert len(differences([*study_of([0.1, 0.2]), cell(9, "fp32", 1.0)])[0].values) == 2


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=6))
def test_the_interval_contains_the_mean(shifts: list[float]) -> None:
    for each in differences(study_of(shifts)):
        assert each.low <= each.mean + 1e-9
        assert each.mean <= each.high + 1e-9


def test_the_verdict_follows_from_the_numbers() -> None:
    scattered, worse, better = [0.5, -0.4, 0.3, -0.5], [0.5, 0.51, 0.49, 0.5], [-0.5, -0.51, -0.49, -0.5]
    same = verdict(study_of(scattered))
    assert same.startswith("BF16 trains as well as FP32")
    assert "4 seeds of 8 steps, 0 of 4 paired differences" in same
    assert verdict(study_of(scattered, generator_loss=worse)).startswith("BF16 trains worse than FP32: ")
    assert "1 of 4 paired differences" in verdict(study_of(scattered, generator_loss=worse))
    # A change of the discriminator's loss is neither good nor bad.
    for harmless in ({"discriminator_loss": worse}, {"shape_error": better}):
        assert verdict(study_of(scattered, **harmless)).startswith("BF16 trains differently from FP32, but not worse")
    assert "0.000 apart" in same


def test_two_seeds_are_needed() -> None:
    with pytest.raises(ValueError, match="bf16 and fp32 have 1 seeds in common; expected at least 2"):
        differences(study_of([0.1]))


def test_the_table_has_both_precisions_and_their_differences() -> None:
    lines = table(study_of([0.1, 0.3])).splitlines()
    assert lines[0] == "| | fp32 (spread) | bf16 (spread) |"
    assert lines[2] == "| ln of the discriminator's loss | 1.5 (0.71) | 1.7 (0.85) |"
    assert "| bf16: ln of the generator's loss | +0.2 | -1.07 to +1.47 | 0.28 |" in lines


def test_shapes_and_curves() -> None:
    moved = np.array(FLAT)
    moved[2] = 0
    moved[2, 0] = 1
    assert shape_distance(FLAT, FLAT) == 0
    assert shape_distance(FLAT, moved.tolist()) == pytest.approx((24 / 25) / 3)
    assert curve([[1, 2], [3, 4]]).tolist() == [[1, 2], [3, 4]]
    long = curve([[step, 0] for step in range(100)])
    assert (len(long), long[0, 0]) == (50, 0.5)


def test_steps_fit_into_the_time() -> None:
    assert study.steps_for(55, 3, [1.0, 1.5], [20, 30]) == int((0.85 * 1100 - 50) / 2.5)
    with pytest.raises(SystemExit, match=r"1 allows 0 steps .* at least 20. Give --minutes 6 or more"):
        study.steps_for(1, 3, [1.0, 1.5], [20, 30])


@pytest.mark.slow
def test_an_interrupted_study_continues(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    work, out = tmp_path / "work", tmp_path / "out"
    work.mkdir()
    (work / "plan.json").write_text(json.dumps(asdict(PLAN)))
    for seed, precision in ((1, "bf16"), (2, "fp32"), (2, "bf16")):
        done = replace(cell(seed, precision, 20.0 + seed), losses=[[1.0, 2.0]] * PLAN.steps)
        (work / f"{precision}-{seed}.json").write_text(json.dumps(asdict(done)))
    options = ["--seeds", "2", "--precisions", "fp32", "bf16", "--work", str(work), "--out", str(out)]
    study.main(options)
    assert "seed 1, fp32: 2 steps" in capsys.readouterr().out
    made = Cell(**json.loads((work / "fp32-1.json").read_text()))
    assert np.array(made.losses).shape == (2, 2)
    assert np.isfinite(made.losses).all()
    assert np.sum(made.profiles, axis=1) == pytest.approx(1)
    assert made.figures["generator_loss"] == pytest.approx(np.log(made.losses[-1][1]))
    content = json.loads((out / "precision.json").read_text())
    assert (content["steps"], len(content["cells"]), len(content["differences"])) == (2, 4, 4)
    assert content["verdict"] in (out / "precision.md").read_text()
    assert (out / "precision.png").read_bytes().startswith(b"\x89PNG")
    study.main(options)
    assert "steps\n" not in capsys.readouterr().out


def test_another_study_is_not_continued(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "plan.json").write_text(json.dumps(asdict(replace(PLAN, seeds=[1, 2, 3]))))
    for options, message in (
        (["--seeds", "2", "--precisions", "fp32", "bf16"], "holds a study of 3 seeds in fp32, bf16: remove it"),
        (["--seeds", "1"], "at least two seeds"),
        (["--precisions", "bf16"], "and fp32 with another precision"),
    ):
        with pytest.raises(SystemExit):
            study.main([*options, "--work", str(tmp_path)])
        assert message in " ".join(capsys.readouterr().err.split())
