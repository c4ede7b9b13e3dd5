"""Thread counts and variables of a worker, and whose word counts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.errors import LaunchError
from launcher.threads import ThreadPlan, plan_threads


def values(plan: ThreadPlan) -> dict[str, str]:
    return {variable.name: variable.value for variable in plan.variables}


def origins(plan: ThreadPlan) -> dict[str, str]:
    return {variable.name: variable.origin for variable in plan.variables}


def test_the_tuned_values_on_twelve_cores() -> None:
    plan = plan_threads(12, {})
    assert (plan.inter_op, plan.intra_op) == (2, 11)
    assert values(plan) == {
        "TF_NUM_INTEROP_THREADS": "2",
        "TF_NUM_INTRAOP_THREADS": "11",
        "OMP_NUM_THREADS": "6",
        "KMP_BLOCKTIME": "1",
        "KMP_AFFINITY": "granularity=fine,compact,1,0",
        "HOROVOD_FUSION_THRESHOLD": "134217728",
        "HOROVOD_CPU_OPERATIONS": "MPI",
        "TF_ENABLE_ONEDNN_OPTS": "1",
    }
    assert set(origins(plan).values()) == {"plan"}
    assert plan.warnings == ()


@pytest.mark.parametrize(
    ("cores", "inter", "intra", "omp"),
    [(1, 1, 1, "1"), (2, 1, 2, "2"), (3, 1, 3, "3"), (4, 2, 3, "2"), (24, 2, 23, "12")],
)
def test_defaults_by_cores(cores: int, inter: int, intra: int, omp: str) -> None:
    plan = plan_threads(cores, {})
    assert (plan.inter_op, plan.intra_op, values(plan)["OMP_NUM_THREADS"]) == (inter, intra, omp)


@given(st.integers(1, 256))
def test_defaults_crowd_nobody(cores: int) -> None:
    plan = plan_threads(cores, {})
    assert plan.inter_op * int(values(plan)["OMP_NUM_THREADS"]) <= cores
    assert max(plan.inter_op, plan.intra_op) <= cores
    assert plan.warnings == ()


def test_what_the_user_has_set_is_kept_and_named() -> None:
    environ = {"TF_NUM_INTRAOP_THREADS": "8", "OMP_NUM_THREADS": "4", "KMP_BLOCKTIME": "0", "HOME": "/root"}
    plan = plan_threads(12, environ)
    assert (plan.inter_op, plan.intra_op) == (2, 8)
    assert {name for name, origin in origins(plan).items() if origin == "user"} == set(environ) - {"HOME"}
    assert values(plan)["KMP_BLOCKTIME"] == "0"
    assert plan.warnings == ()


def test_an_option_wins_over_the_environment_and_says_so() -> None:
    plan = plan_threads(12, {"TF_NUM_INTEROP_THREADS": "4"}, inter_op=3)
    assert plan.inter_op == 3
    assert origins(plan)["TF_NUM_INTEROP_THREADS"] == "option"
    assert values(plan)["OMP_NUM_THREADS"] == "4"
    assert plan.warnings == ("--inter-op 3 is used, not TF_NUM_INTEROP_THREADS=4 of the environment",)


def test_an_option_like_the_environment_is_no_clash() -> None:
    assert plan_threads(12, {"TF_NUM_INTRAOP_THREADS": "8"}, intra_op=8).warnings == ()


def test_openmps_own_affinity_is_not_overridden() -> None:
    plan = plan_threads(12, {"OMP_PROC_BIND": "close", "OMP_PLACES": "cores"})
    assert "KMP_AFFINITY" not in values(plan)
    assert (origins(plan)["OMP_PROC_BIND"], values(plan)["OMP_PLACES"]) == ("user", "cores")
    both = plan_threads(12, {"OMP_PROC_BIND": "close", "KMP_AFFINITY": "scatter"})
    assert values(both)["KMP_AFFINITY"] == "scatter"


def test_an_empty_variable_is_not_set() -> None:
    assert plan_threads(12, {"OMP_NUM_THREADS": "", "KMP_BLOCKTIME": ""}) == plan_threads(12, {})


def test_nested_openmp_counts_by_its_outermost() -> None:
    plan = plan_threads(12, {"OMP_NUM_THREADS": "6,2"})
    assert (values(plan)["OMP_NUM_THREADS"], plan.warnings) == ("6,2", ())


@pytest.mark.parametrize(
    ("environ", "options", "said"),
    [
        ({}, {"intra_op": 13}, "TF_NUM_INTRAOP_THREADS=13, but the worker has 12 cores"),
        ({"TF_NUM_INTEROP_THREADS": "13"}, {}, "TF_NUM_INTEROP_THREADS=13, but the worker has 12 cores"),
        ({"OMP_NUM_THREADS": "12"}, {}, "expected OMP_NUM_THREADS of at most 6"),
    ],
)
def test_too_many_threads_are_a_warning(environ: dict[str, str], options: dict[str, Any], said: str) -> None:
    (warning,) = plan_threads(12, environ, **options).warnings
    assert said in warning


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5", "1 2", "4,2"])
def test_what_is_no_number_of_threads(value: str) -> None:
    with pytest.raises(LaunchError, match=r"TF_NUM_INTRAOP_THREADS is .* expected a whole number of at least 1"):
        plan_threads(12, {"TF_NUM_INTRAOP_THREADS": value})


@pytest.mark.parametrize("value", ["0", "x", ",2"])
def test_what_is_no_number_for_openmp(value: str) -> None:
    with pytest.raises(LaunchError, match="OMP_NUM_THREADS is"):
        plan_threads(12, {"OMP_NUM_THREADS": value})


def test_options_and_cores_below_one() -> None:
    with pytest.raises(LaunchError, match="--inter-op is 0"):
        plan_threads(12, {}, inter_op=0)
    with pytest.raises(LaunchError, match="0 cores for a worker"):
        plan_threads(0, {})
