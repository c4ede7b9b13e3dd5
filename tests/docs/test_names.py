"""The targets of links exist, and so do files, modules and options that the documentation names."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import click
import pytest

from launcher.machines import machine_names
from scaling.models import MODELS
from tests.docs.commands import GROUPS, make_targets
from tests.docs.documents import DOCUMENTS, Piece, anchors, blocks, code_spans, links
from tests.support.environment import ROOT

PACKAGES = ("launcher", "gan", "scaling", "tests")
FOLDERS = (*PACKAGES, "docs", "jobs")
FOREIGN = {"--ntasks-per-node", "--signal"}
"""Options of Slurm."""

TRAIN = GROUPS["launcher"].commands["train"]

MODULE = re.compile(rf"({'|'.join(PACKAGES)})(\.\w+)+")
PATH = re.compile(rf"({'|'.join(FOLDERS)})/[\w./-]*")


def options(command: click.Command) -> set[str]:
    """Return the options of a command and of all commands in it."""
    given = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    found = {name for option in given for name in (*option.opts, *option.secondary_opts)}
    commands = command.commands.values() if isinstance(command, click.Group) else ()
    return found.union(*map(options, commands))


def defines(module: Path, name: str) -> bool:
    """Return True if a module defines a name at its top level, or imports it there."""
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            return True
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(target, ast.Name) and target.id == name for target in targets):
                return True
        if isinstance(node, ast.ImportFrom) and any((each.asname or each.name) == name for each in node.names):
            return True
    return False


def exists(dotted: str) -> bool:
    """Return True if a dotted name is a package, a module, or a name in a module."""
    path = ROOT.joinpath(*dotted.split("."))
    if path.with_suffix(".py").is_file() or (path / "__init__.py").is_file():
        return True
    module = path.parent.with_suffix(".py") if path.parent.with_suffix(".py").is_file() else path.parent / "__init__.py"
    return module.is_file() and defines(module, path.name)


@pytest.mark.parametrize("link", links(), ids=str)
def test_link_leads_somewhere(link: Piece) -> None:
    parts = urlsplit(link.text)
    if parts.scheme:
        assert parts.scheme == "https"
        return
    target = (link.document.parent / unquote(parts.path)).resolve() if parts.path else link.document
    assert target.is_relative_to(ROOT)
    assert target.exists(), f"{link.text} does not exist"
    if parts.fragment:
        assert parts.fragment in anchors(target), f"{link.text} has no such heading"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_headings_of_a_document_differ(document: Path) -> None:
    assert not [anchor for anchor in anchors(document) if re.search(r"-\d$", anchor)]


@pytest.mark.parametrize("span", [span for span in code_spans() if PATH.fullmatch(span.text)], ids=str)
def test_path_exists(span: Piece) -> None:
    path = ROOT / span.text
    assert path.is_dir() if span.text.endswith("/") else path.exists()


@pytest.mark.parametrize("span", [span for span in code_spans() if MODULE.fullmatch(span.text)], ids=str)
def test_module_exists(span: Piece) -> None:
    assert exists(span.text)


@pytest.mark.parametrize("span", [span for span in code_spans() if span.text.startswith("--")], ids=str)
def test_option_exists(span: Piece) -> None:
    known = set().union(*map(options, GROUPS.values())) | FOREIGN
    assert re.split("[ =]", span.text)[0] in known


def documented(*names: str) -> str:
    """Return the inline code and the blocks of documents, one per line."""
    pieces = [*code_spans(), *blocks("sh"), *blocks("toml")]
    return "\n".join(piece.text for piece in pieces if not names or piece.document.name in names)


@pytest.mark.parametrize("option", [each.opts[0] for each in TRAIN.params if isinstance(each, click.Option)])
def test_option_of_a_training_is_documented(option: str) -> None:
    assert option in documented("training.md").split("\n")


@pytest.mark.parametrize("machine", machine_names())
def test_machine_is_documented(machine: str) -> None:
    assert machine in documented("clusters.md").split("\n")


@pytest.mark.parametrize("model", MODELS)
def test_scaling_model_is_documented(model: str) -> None:
    assert model in documented("scaling.md").split("\n")


@pytest.mark.parametrize("target", sorted(make_targets() - {"help", "lint", "clean"}))
def test_make_target_is_documented(target: str) -> None:
    assert re.search(rf"make (\S+=\S+ )*{target}\b(?!-)", documented())


@pytest.mark.parametrize("name", ["scaling.records", "scaling.runs.RunLog", "launcher.machines", "tests.docs"])
def test_existing_names_are_found(name: str) -> None:
    assert exists(name)


@pytest.mark.parametrize("name", ["scaling.recordz", "scaling.runs.RunLogs", "launcher.machines.nothing"])
def test_missing_names_are_found_missing(name: str) -> None:
    assert not exists(name)
