"""The output of Slurm's commands is parsed, and errors are reported. The cluster tests use a real Slurm."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.batch.slurm import (
    FINISHED,
    Slurm,
    SlurmError,
    dependents_of,
    parse_dependencies,
    parse_end_time,
    parse_job_id,
    parse_states,
)
from launcher.errors import LaunchError
from tests.support.slurm_site import Site

NUMBERS = st.integers(1, 2**31)
STATES = st.sampled_from([*sorted(FINISHED), "PENDING", "RUNNING", "COMPLETING", "REQUEUE_HOLD"])
REAL = """\
10 afterany:8(unfulfilled),afterany:9(unfulfilled)
11 (null)
5_[1-3] afterany:10(unfulfilled)
13 afterany:5_2(unfulfilled)?afterany:8(unfulfilled)
3 afterok:1(failed),afterok:2(unfulfilled),afterany:2+5(unfulfilled)
4 singleton(unfulfilled)
"""
"""Output of Slurm 22.05."""


@pytest.fixture
def slurm(site: Site, monkeypatch: pytest.MonkeyPatch) -> Slurm:
    """Slurm's commands with an environment that only this object has."""
    for name in site.environ:
        monkeypatch.delenv(name)
    return Slurm(site.environ)


@given(
    NUMBERS, st.sampled_from(["", ";cluster1"]), st.lists(st.sampled_from(["Welcome to TACC", "--> OK", "", "----"]))
)
def test_job_numbers_are_found_after_greetings(job: int, cluster: str, greeting: list[str]) -> None:
    assert parse_job_id("\n".join([*greeting, f"{job}{cluster}\n"])) == job
    assert parse_job_id("\n".join([*greeting, f"Submitted batch job {job}"])) == job


@given(st.text(st.characters(exclude_categories=["N"])))
def test_an_output_without_a_job_number_is_an_error(text: str) -> None:
    with pytest.raises(SlurmError, match="sbatch printed no job number"):
        parse_job_id(text)


@given(st.dictionaries(NUMBERS, STATES))
def test_states_are_parsed(states: dict[int, str]) -> None:
    assert parse_states("".join(f"{job} {state}\n" for job, state in states.items())) == states


def test_additions_and_steps_are_ignored_in_states() -> None:
    assert parse_states("12 CANCELLED by 1000\n13 RUNNING\n12.batch FAILED\n5_[1-3] PENDING\n") == {
        12: "CANCELLED",
        13: "RUNNING",
    }


def test_dependencies_from_real_output() -> None:
    assert parse_dependencies(REAL) == {
        10: frozenset({8, 9}), 11: frozenset(), 5: frozenset({10}), 13: frozenset({5, 8}), 3: frozenset({1, 2}),
        4: frozenset(),
    }  # fmt: skip


@given(
    st.dictionaries(
        NUMBERS,
        st.lists(st.tuples(st.sampled_from(["afterany", "afterok", "after"]), st.lists(NUMBERS, min_size=1))),
    )
)
def test_dependencies_are_parsed(jobs: dict[int, list[tuple[str, list[int]]]]) -> None:
    lines = []
    for job, terms in jobs.items():
        texts = [f"{kind}:{':'.join(map(str, numbers))}(unfulfilled)" for kind, numbers in terms]
        lines.append(f"{job} {','.join(texts) or '(null)'}")
    expected = {job: frozenset(n for _, numbers in terms for n in numbers) for job, terms in jobs.items()}
    assert parse_dependencies("\n".join(lines)) == expected


@given(st.text())
def test_no_text_breaks_the_parsers(text: str) -> None:
    assert all(isinstance(job, int) for job in parse_states(text))
    assert all(isinstance(waits, frozenset) for waits in parse_dependencies(text).values())
    assert parse_end_time(text) is None or "T" in text


@given(st.dictionaries(st.integers(0, 20), st.frozensets(st.integers(0, 20))), st.integers(0, 20))
def test_dependents_are_all_direct_and_indirect_ones(dependencies: dict[int, frozenset[int]], job: int) -> None:
    dependents = dependents_of(dependencies, job)
    assert dependents == sorted(set(dependents))
    assert job not in dependents
    inside = {job, *dependents}
    for other, waits in dependencies.items():
        assert (other in inside) == (bool(waits & inside) or other == job)


def test_dependents_of_a_chain() -> None:
    assert dependents_of(parse_dependencies(REAL), 8) == [5, 10, 13]
    assert dependents_of(parse_dependencies(REAL), 99) == []


@given(st.integers(0, 4_000_000_000))
def test_end_times_are_read_as_local_time(moment: int) -> None:
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(moment))
    seconds = parse_end_time(text + "\n")
    assert seconds is not None
    assert time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(seconds)) == text


@pytest.mark.parametrize("text", ["N/A", "", "Unknown", "2026-11-21", "9999-99-99T00:00:00"])
def test_other_texts_are_no_end_time(text: str) -> None:
    assert parse_end_time(text) is None


def test_the_script_is_sent_on_standard_input(site: Site, slurm: Slurm) -> None:
    assert slurm.submit("#!/bin/sh\necho 1\n", "--dependency=afterany:3") == 41
    assert site.calls("sbatch") == ["--parsable --dependency=afterany:3"]
    assert site.scripts() == {41: "#!/bin/sh\necho 1\n"}


def test_the_message_of_a_refusal_is_reported(site: Site, slurm: Slurm) -> None:
    site.answer("refuse-after", "0")
    with pytest.raises(LaunchError, match=r"sbatch refused: sbatch: error: .*Invalid account"):
        slurm.submit("#!/bin/sh\n")


def test_without_slurm_the_error_names_the_login_node(tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match=r"there is no sbatch on PATH; .* login node"):
        Slurm({"PATH": str(tmp_path)}).submit("")


def test_states_without_accounting(site: Site, slurm: Slurm) -> None:
    site.answer("queue", "41 RUNNING\n42 TIMEOUT\n")
    assert slurm.states([42, 41, 43]) == {41: "RUNNING", 42: "TIMEOUT", 43: "UNKNOWN"}
    assert site.calls("squeue") == ["--noheader --states=all --jobs=41,42,43 --format=%i %T"]


def test_states_of_forgotten_jobs_come_from_the_accounting(site: Site, slurm: Slurm) -> None:
    site.answer("queue", "41 RUNNING\n")
    site.answer("accounts", "41 PENDING\n43 CANCELLED by 1000\n")
    assert slurm.states([41, 43, 44]) == {41: "RUNNING", 43: "CANCELLED", 44: "UNKNOWN"}


def test_a_query_for_one_forgotten_job_is_no_error(site: Site, slurm: Slurm) -> None:
    (site.bin / "squeue").write_text("#!/bin/sh\necho slurm_load_jobs error: Invalid job id specified >&2\nexit 1\n")
    assert slurm.states([9]) == {9: "UNKNOWN"}
    assert slurm.end_time(9) is None


def test_an_unreachable_controller_is_an_error(site: Site, slurm: Slurm) -> None:
    site.answer("down", "")
    with pytest.raises(SlurmError, match=r"squeue refused: .*Unable to contact slurm controller"):
        slurm.states([9])


def test_no_command_runs_for_an_empty_list_of_jobs(site: Site, slurm: Slurm) -> None:
    assert slurm.states([]) == {}
    slurm.cancel()
    assert not (site.folder / "calls").exists()


def test_a_user_s_output_formats_are_not_used(site: Site) -> None:
    (site.bin / "squeue").write_text('#!/bin/sh\necho "7 S$SQUEUE_STATES$SACCT_FORMAT$SLURM_TIME_FORMAT"\n')
    slurm = Slurm({**site.environ, "SQUEUE_STATES": "FAILED", "SACCT_FORMAT": "x", "SLURM_TIME_FORMAT": "relative"})
    assert slurm._squeue() == "7 Sstandard\n"


def test_dependents_and_end_time(site: Site, slurm: Slurm) -> None:
    site.answer("waits", REAL)
    site.answer("ends", "2026-11-21T10:00:00\n")
    assert slurm.dependents(10) == [5, 13]
    assert slurm.end_time(10) == time.mktime((2026, 11, 21, 10, 0, 0, 0, 0, -1))
    assert site.calls("squeue")[0] == "--noheader --me --states=PENDING --format=%i %E"


def test_excluded_hosts_are_added_to_earlier_ones(site: Site, slurm: Slurm) -> None:
    site.answer("excluded", "(null)\n")
    slurm.exclude(7, ["c003", "c001"])
    site.answer("excluded", "c[001-002]\n")
    slurm.exclude(7, ["c005"])
    slurm.exclude(7, [])
    assert site.calls("scontrol") == [
        "update JobId=7 ExcNodeList=c003,c001",
        "update JobId=7 ExcNodeList=c[001-002],c005",
        "update JobId=7 ExcNodeList=c[001-002]",
    ]


def test_cancel_and_requeue(site: Site, slurm: Slurm) -> None:
    slurm.cancel(3, 4)
    slurm.requeue(5)
    assert (site.calls("scancel"), site.calls("scontrol")) == (["3 4"], ["requeue 5"])
