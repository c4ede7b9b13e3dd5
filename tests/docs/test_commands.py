"""All commands and TOML blocks of the documentation work, and so does the example of a network."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from launcher.machines import load_machine
from tests.docs.commands import GROUPS, WrongCommand, check, make_targets, parse, simple_commands
from tests.docs.documents import Block, Piece, blocks, code_spans

LANGUAGES = {"sh", "toml", "python", "text"}
STARTS = ("python ", "mpirun ", "make ", "sbatch ")
"""Starts of inline code that is a whole command."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a working folder with the files that the documentation shows."""
    monkeypatch.chdir(tmp_path)
    for block in blocks("toml"):
        if block.name:
            Path(block.name).write_text(block.text, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("block", blocks(), ids=str)
def test_block_names_a_language_that_is_checked(block: Block) -> None:
    assert block.language in LANGUAGES


@pytest.mark.parametrize("block", blocks("sh"), ids=str)
@pytest.mark.usefixtures("folder")
def test_commands_of_block_work(block: Block) -> None:
    commands = list(simple_commands(block.text))
    assert commands, "the block has no command"
    for command in commands:
        try:
            check(command)
        except WrongCommand as error:
            pytest.fail(f"{' '.join(command)}: {error}")


@pytest.mark.parametrize("span", [span for span in code_spans() if span.text.startswith(STARTS)], ids=str)
@pytest.mark.usefixtures("folder")
def test_command_within_text_works(span: Piece) -> None:
    (command,) = simple_commands(span.text)
    check(command, whole=False)


@pytest.mark.parametrize("block", blocks("toml"), ids=str)
@pytest.mark.usefixtures("folder")
def test_toml_block_is_a_machine_or_options_of_a_training(block: Block) -> None:
    assert block.name.endswith(".toml"), "write the name of the file after the language"
    if "launcher" in tomllib.loads(block.text):
        assert load_machine(f"./{block.name}").title
    else:
        assert parse("launcher", ["train", "--config", block.name])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("python -m launcher plan --nodez 3", "nodez"),
        ("python -m launcher plan --nodes none", "nodes"),
        ("python -m launcher plan --machine nowhere", "nowhere"),
        ("python -m launcher plan --machine stampede3-icx --nodes 33", "32"),
        ("python -m launcher submit --machine generic --data x.h5 --epoch 2.5", "epoch"),
        ("python -m launcher submit --machine stampede3-icx --nodes 33 --data x.h5", "32"),
        ("python -m launcher run --nodes 2 train --precision fp8", "fp8"),
        ("python -m scaling fly", "fly"),
        ("mpirun -np 2 python -m launcher --dta 'x*.h5'", "dta"),
        ("mpirun -np 2 launcher", "python"),
        ("python -m gan simulate --events 20000", "--out"),
        ("python -m scaling report", "RUN"),
        ("python -m nothing", "nothing"),
        ("python -m tests.simgrid --huge", "--huge"),
        ("python -m pytest tests/nothing", "tests/nothing"),
        ("python launcher", "-m"),
        ("make env && make cofee", "cofee"),
        ("make env MPIX=site", "MPIX"),
        ("sbatch -N 2 jobs/nowhere.sh", "jobs/nowhere.sh"),
        ("sbatch -N 2 jobs/slurm.sh --epoks 3", "epoks"),
        ("DATEN='*.h5' sbatch jobs/slurm.sh", "DATEN"),
        ("frobnicate --all", "frobnicate"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_wrong_command_is_found(text: str, reason: str) -> None:
    *_, last = simple_commands(text)
    with pytest.raises(WrongCommand, match=reason):
        check(last)


def test_commands_are_cut_as_a_shell_cuts_them() -> None:
    text = "make env\\\n  MPI=site  # a comment\n\nA=1 b 'c; d' > e.txt && f | g"
    assert list(simple_commands(text)) == [["make", "env", "MPI=site"], ["A=1", "b", "c; d"], ["f"], ["g"]]


def test_make_targets_are_found() -> None:
    assert {"env", "demo", "test", "bench-compare"} <= make_targets()


@pytest.mark.parametrize("group", GROUPS)
def test_every_command_is_documented(group: str) -> None:
    shown = [span.text for span in code_spans()] + [block.text for block in blocks("sh")]
    commands = [name for name, command in GROUPS[group].commands.items() if not command.hidden]
    missing = [name for name in commands if not any(f"{group} {name}" in text for text in shown)]
    assert not missing
