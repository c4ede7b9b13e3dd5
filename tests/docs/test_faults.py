"""Every row of the table of faults in docs/clusters.md has a test."""

from __future__ import annotations

import ast

from tests.support.environment import ROOT

TESTS = {
    "a rank is killed, or its program fails": "mpi/test_training.py::test_killing_one_rank_ends_the_job_and_names_it",
    "a kill while a checkpoint or a line of the record is being written": (
        "mpi/test_faults.py::test_a_run_that_is_killed_everywhere_ends_with_the_weights_of_a_quiet_one"
    ),
    "a rank is suspended or hangs": "mpi/test_faults.py::test_a_suspended_rank_is_named_and_ends_the_run",
    "a rank hangs while it starts": "launcher/test_start_limit.py::test_a_start_without_end_says_what_it_does_and_ends",
    "a node dies under `launcher run`": (
        "cluster/test_jobs.py::test_dying_node_is_named_and_the_next_job_continues_without_it"
    ),
    "SIGUSR1, SIGTERM, SIGHUP or Ctrl-C at a rank or at `launcher run`": (
        "launcher/test_run.py::test_an_interrupted_run_continues_to_the_same_weights"
    ),
    "such a signal at `mpirun`": "mpi/test_faults.py::test_after_a_signal_to_mpirun_the_record_says_what_happened",
    "a request to stop, and a rank does not answer": (
        "mpi/test_faults.py::test_launcher_run_ends_when_a_rank_does_not_answer"
    ),
    "`launcher run` is killed": "launcher/test_run.py::test_no_rank_outlives_a_killed_launcher",
    "the newest checkpoint is damaged": (
        "gan/test_checkpoint.py::test_a_damaged_checkpoint_is_passed_over_for_the_one_before"
    ),
    "the disk is full": "mpi/test_faults.py::test_a_full_disk_is_one_error_and_loses_only_the_epoch",
    "the run folder is removed or moved during the run": (
        "gan/test_training.py::test_a_run_folder_that_goes_away_is_an_error"
    ),
    "the record is removed during the run": "gan/test_training.py::test_a_record_that_goes_away_is_an_error",
    "the lock of the run folder is removed": (
        "gan/test_lock.py::test_a_lock_that_is_gone_is_not_taken_for_another_run"
    ),
    "the run folder becomes read-only": (
        "gan/test_lock.py::test_a_folder_that_became_read_only_does_not_hide_the_error_of_the_run"
    ),
    "a suspended run wakes up after another one has taken its folder": (
        "gan/test_lock.py::test_who_lost_the_lock_writes_nothing_more"
    ),
    "the clocks of two hosts differ": (
        "gan/test_lock.py::test_a_clock_that_differs_does_not_take_the_lock_of_a_living_run"
    ),
    "a data file is damaged": "mpi/test_training.py::test_damage_found_by_one_rank_ends_all_and_is_said_once",
    "a loss is not a finite number": (
        "gan/test_training.py::test_a_loss_that_is_no_number_ends_the_run_and_keeps_the_record"
    ),
    "data files of the same names with other events": (
        "gan/test_training.py::test_other_data_of_the_same_name_and_size_are_refused"
    ),
    "memory of a worker is on another NUMA domain": "launcher/test_report.py::test_warning_names_host_and_worker",
}


def rows() -> list[str]:
    """Return the first cell of each row of the table."""
    text = (ROOT / "docs" / "clusters.md").read_text(encoding="utf-8")
    section = text.partition("\n## Faults\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [line.split("|")[1].strip() for line in lines[1:]]


def test_every_fault_has_a_test() -> None:
    assert rows() == list(TESTS)
    for place in TESTS.values():
        file, _, name = place.partition("::")
        module = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
        assert any(isinstance(node, ast.FunctionDef) and node.name == name for node in module.body), place
