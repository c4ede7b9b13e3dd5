"""Thread counts and variables of a worker, and the priority of options, environment and defaults."""

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


def test_twelve_cores_get_the_values_of_the_xeon_8160() -> None:
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
def test_defaults_depend_on_the_number_of_cores(cores: int, inter: int, intra: int, omp: str) -> None:
    plan = plan_threads(cores, {})
    assert (plan.inter_op, plan.intra_op, values(plan)["OMP_NUM_THREADS"]) == (inter, intra, omp)


@given(st.integers(1, 256))
def test_defaults_never_exceed_the_cores(cores: int) -> None:
    plan = plan_threads(cores, {})
    assert plan.inter_op * int(values(plan)["OMP_NUM_THREADS"]) <= cores
    assert max(plan.inter_op, plan.intra_op) <= cores
    assert plan.warnings == ()


def test_variables_of_the_user_are_kept_and_marked() -> None:
    environ = {"TF_NUM_INTRAOP_THREADS": "8", "OMP_NUM_THREADS": "4", "KMP_BLOCKTIME": "0", "HOME": "/root"}
    plan = plan_threads(12, environ)
    assert (plan.inter_op, plan.intra_op) == (2, 8)
    assert {name for name, origin in origins(plan).items() if origin == "user"} == set(environ) - {"HOME"}
    assert values(plan)["KMP_BLOCKTIME"] == "0"
    assert plan.warnings == ()


def test_an_option_wins_over_the_environment_with_a_warning() -> None:
    plan = plan_threads(12, {"TF_NUM_INTEROP_THREADS": "4"}, inter_op=3)
    assert plan.inter_op == 3
    assert origins(plan)["TF_NUM_INTEROP_THREADS"] == "option"
    assert values(plan)["OMP_NUM_THREADS"] == "4"
    assert plan.warnings == ("--inter-op 3 overrides TF_NUM_INTEROP_THREADS=4 from the environment",)


def test_an_option_equal_to_the_environment_gives_no_warning() -> None:
    assert plan_threads(12, {"TF_NUM_INTRAOP_THREADS": "8"}, intra_op=8).warnings == ()


def test_openmps_standard_affinity_is_not_overridden() -> None:
    plan = plan_threads(12, {"OMP_PROC_BIND": "close", "OMP_PLACES": "cores"})
    assert "KMP_AFFINITY" not in values(plan)
    assert (origins(plan)["OMP_PROC_BIND"], values(plan)["OMP_PLACES"]) == ("user", "cores")
    both = plan_threads(12, {"OMP_PROC_BIND": "close", "KMP_AFFINITY": "scatter"})
    assert values(both)["KMP_AFFINITY"] == "scatter"


def test_an_empty_variable_counts_as_not_set() -> None:
    assert plan_threads(12, {"OMP_NUM_THREADS": "", "KMP_BLOCKTIME": ""}) == plan_threads(12, {})


def test_the_outer_level_of_nested_openmp_counts() -> None:
    plan = plan_threads(12, {"OMP_NUM_THREADS": "6,2"})
    assert (values(plan)["OMP_NUM_THREADS"], plan.warnings) == ("6,2", ())


@pytest.mark.parametrize(
    ("environ", "options", "message"),
    [
        ({}, {"intra_op": 13}, "TF_NUM_INTRAOP_THREADS=13, but the worker has 12 cores"),
        ({"TF_NUM_INTEROP_THREADS": "13"}, {}, "TF_NUM_INTEROP_THREADS=13, but the worker has 12 cores"),
        ({"OMP_NUM_THREADS": "12"}, {}, "set OMP_NUM_THREADS to at most 6"),
    ],
)
def test_too_many_threads_give_a_warning(environ: dict[str, str], options: dict[str, Any], message: str) -> None:
    (warning,) = plan_threads(12, environ, **options).warnings
    assert message in warning


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5", "1 2", "4,2"])
def test_a_number_of_threads_is_a_whole_number(value: str) -> None:
    with pytest.raises(LaunchError, match=r"TF_NUM_INTRAOP_THREADS is .* expected a whole number of at least 1"):
        plan_threads(12, {"TF_NUM_INTRAOP_THREADS": value})


@pytest.mark.parametrize("value", ["0", "x", ",2"])
def test_the_outer_level_of_openmp_is_a_whole_number(value: str) -> None:
    with pytest.raises(LaunchError, match="OMP_NUM_THREADS is"):
        plan_threads(12, {"OMP_NUM_THREADS": value})


def test_options_and_cores_below_one_are_errors() -> None:
    with pytest.raises(LaunchError, match="--inter-op is 0"):
        plan_threads(12, {}, inter_op=0)
    with pytest.raises(LaunchError, match="0 cores for a worker"):
        plan_threads(0, {})
