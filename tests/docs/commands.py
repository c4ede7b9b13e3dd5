"""Check the commands of a shell block: the programs' own parsers read the options, and named files must exist.

Commands that only print are run in full: `plan`, `topology` and `script`, and `submit` and `study` with --dry-run.
Nothing is trained, submitted or installed.
"""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from unittest.mock import patch

import click
from click.testing import CliRunner

from gan.cli import main as gan
from launcher.cli import cli as launcher
from scaling.cli import main as scaling
from tests.support.environment import ROOT

__all__ = ["GROUPS", "WrongCommand", "check", "make_targets", "parse", "simple_commands"]

GROUPS: Mapping[str, click.Group] = {"launcher": launcher, "gan": gan, "scaling": scaling}
"""The programs `python -m NAME`."""
PRINTS_ONLY = ("plan", "topology", "script")
"""Commands of the launcher that can run in full."""
DRY = ("submit", "study")
"""Commands of the launcher that can run in full with --dry-run."""
NOT_CHECKED = ("apt-get", "module", ".")
"""Programs that do not belong to the project."""

Words = Sequence[str]


class WrongCommand(ValueError):
    """The documentation shows a command that does not work."""


def simple_commands(text: str) -> Iterator[list[str]]:
    """Yield the words of every command in shell text. Lines are joined at backslashes and cut at ;, & and |."""
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|<>()")
        lexer.whitespace_split = True
        words: list[str] = []
        tokens = iter(lexer)
        for token in tokens:
            if token in ("<", ">", ">>"):
                next(tokens)
            elif set(token) <= set(";&|"):
                yield words
                words = []
            else:
                words.append(token)
        if words:
            yield words


def check(words: Words, *, whole: bool = True) -> None:
    """Check one command.

    Args:
        whole: False for a command that a text only mentions. Required options may be missing then, and values may be
            placeholders, so the command is not run.

    Raises:
        WrongCommand: a program, file, target, option or value does not exist.
    """
    assignments = list(takewhile(lambda word: re.match(r"[A-Z_]+=", word), words))
    words = words[len(assignments) :]
    program, *rest = words[1:] if words[0] == "sudo" else words
    if program in ("mpirun", "srun"):
        if "python" not in rest:
            raise WrongCommand(f"{program} starts no python")
        program, *rest = rest[rest.index("python") :]
    if program == "python":
        _check_python(rest, whole=whole)
    elif program == "make":
        _check_make(rest)
    elif program in ("sbatch", "bash"):
        _check_script(rest, [word.partition("=")[0] for word in assignments])
    elif program not in NOT_CHECKED:
        raise WrongCommand(f"{program} is not known here: use another command, or write a check for it")


def parse(group: str, arguments: Words, *, whole: bool = True) -> click.Context | None:
    """Parse a command line as `python -m GROUP` does, and run nothing.

    If a command of the launcher passes options on to another one, the other one parses them.

    Args:
        whole: whether required options must be given.

    Returns:
        The context of the command; None for --help, or if a required option is missing and this is allowed.

    Raises:
        WrongCommand: the program refuses the command line.
    """
    seen: list[click.Context] = []
    try:
        with patch.object(click.Command, "invoke", lambda _, context: seen.append(context)):
            GROUPS[group].main(list(arguments), prog_name=group, standalone_mode=False)
    except click.ClickException as error:
        if isinstance(error, click.MissingParameter | click.exceptions.NoArgsIsHelpError) and not whole:
            return None
        raise WrongCommand(f"{group}: {error.format_message()}") from error
    if not seen:
        return None
    context = seen[-1]
    if group == "launcher":
        _parse_passed_on(context)
    return context


def _parse_passed_on(context: click.Context) -> None:
    rests = [
        context.params[parameter.name]
        for parameter in context.command.params
        if isinstance(parameter, click.Argument) and parameter.type is click.UNPROCESSED and parameter.name
    ]
    name = context.command.name
    for rest in rests:
        if name == "run":
            parse("launcher", rest)
        elif name in DRY:
            parse("launcher", ["train", *rest])


def _check_python(words: Words, *, whole: bool) -> None:
    if words[:1] != ["-m"] or len(words) < 2:
        raise WrongCommand(f"python {' '.join(words)}: expected python -m MODULE")
    module, arguments = words[1], list(words[2:])
    if module in GROUPS:
        context = parse(module, arguments, whole=whole)
        name = context.command.name if context else ""
        if whole and module == "launcher" and name in (*PRINTS_ONLY, *DRY):
            _run(name or "", arguments)
    elif module == "pytest":
        for path in (word for word in arguments if not word.startswith("-")):
            if not (ROOT / path).exists():
                raise WrongCommand(f"{path} does not exist")
    else:
        _check_module(module, arguments)


def _run(name: str, arguments: list[str]) -> None:
    if "--status" in arguments or "--all" in arguments:
        return
    if name in DRY and "--dry-run" not in arguments:
        arguments = [name, "--dry-run", *arguments[1:]]
    result = CliRunner().invoke(launcher, arguments)
    if result.exit_code:
        raise WrongCommand(f"status {result.exit_code}: {result.output[-500:]}") from result.exception


def _check_module(module: str, arguments: Words) -> None:
    """Check a program of the project that reads its options with argparse."""
    found = importlib.util.find_spec(module)
    if found is not None and found.submodule_search_locations is not None:
        found = importlib.util.find_spec(f"{module}.__main__")
    if found is None or found.origin is None:
        raise WrongCommand(f"there is no module {module} that can be run")
    source = Path(found.origin).read_text(encoding="utf-8")
    for option in (word.partition("=")[0] for word in arguments if word.startswith("-")):
        if f'"{option}"' not in source:
            raise WrongCommand(f"python -m {module} has no option {option}")


def make_targets() -> set[str]:
    """Return the targets of the Makefile."""
    return set(re.findall(r"^([a-z][a-z-]*):(?!=)", _makefile(), re.MULTILINE))


def _makefile() -> str:
    return (ROOT / "Makefile").read_text(encoding="utf-8")


def _check_make(words: Words) -> None:
    for word in words:
        name, equals, _ = word.partition("=")
        if equals and f"$({name})" not in _makefile():
            raise WrongCommand(f"the Makefile does not use the variable {name}")
        if not equals and name not in make_targets():
            raise WrongCommand(f"the Makefile has no target {name}")


def _check_script(words: Words, variables: Words) -> None:
    """Check `sbatch OPTIONS SCRIPT TRAINING-OPTIONS`, or the same with bash."""
    scripts = [number for number, word in enumerate(words) if word.endswith(".sh")]
    if not scripts or not (ROOT / words[scripts[0]]).is_file():
        raise WrongCommand(f"there is no such script: {' '.join(words)}")
    text = (ROOT / words[scripts[0]]).read_text(encoding="utf-8")
    for name in variables:
        if not re.search(rf"\$\{{{name}:?-", text):
            raise WrongCommand(f"{words[scripts[0]]} does not read the variable {name}")
    parse("launcher", ["train", *words[scripts[0] + 1 :]])
