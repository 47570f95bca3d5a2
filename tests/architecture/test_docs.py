"""Documents against the code: docstrings, their examples, records, links, places."""

import ast
import doctest
import functools
import importlib
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import deit
from deit.config import field_docs
from deit.recipes.recipe import Recipe

from .source_tree import ROOT, Module, all_modules

RECORD = re.compile(r"(?:[Dd]ecision )?[Rr]ecords? (\d{4})|docs/decisions/(\d{4})")
LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")
PLACE = re.compile(r"`((?:src|tests|docs|benchmarks)/[\w./*-]*)(?:::(\w+))?`")
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:work|home|root|Users|tmp)/\w|[A-Z]:\\+Users")
Node = ast.Module | ast.ClassDef | ast.FunctionDef


@functools.cache
def tracked_files() -> tuple[Path, ...]:
    """What belongs to the repository: everything that git does not ignore."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no git checkout: what is tracked cannot be told")
    return tuple(path for path in map(ROOT.joinpath, listed.stdout.splitlines()) if path.is_file())


def documents() -> list[Path]:
    return sorted(
        {*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/**/*.md")}
    )


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def nodes_below(node: Node, prefix: str) -> Iterator[tuple[str, Node]]:
    """A module, class or function and all classes and functions that stand in it, by full name."""
    yield prefix, node
    for child in node.body if not isinstance(node, ast.FunctionDef) else ():
        if isinstance(child, ast.ClassDef | ast.FunctionDef):
            yield from nodes_below(child, f"{prefix}.{child.name}")


def examples_of(module: Module) -> list[doctest.DocTest]:
    """The examples in a module's docstrings, found in the source.

    doctest's own finder sees none of the functions that the shape checks of conftest.py have
    wrapped.
    """
    parser, namespace = doctest.DocTestParser(), vars(importlib.import_module(module.name))
    found = []
    for name, node in nodes_below(module.tree, module.name):
        text = ast.get_docstring(node) or ""
        line = getattr(node, "lineno", 1)
        found.append(parser.get_doctest(text, dict(namespace), name, module.place, line))
    return [example for example in found if example.examples]


@pytest.mark.parametrize("module", all_modules().values(), ids=lambda module: module.name)
def test_everything_public_is_documented(module):
    """Module, class, function and method: what has no underscore has a docstring."""
    for name, node in nodes_below(module.tree, module.name):
        is_private = any(part.startswith("_") for part in name.split("."))
        is_overload = "overload" in [ast.unparse(d) for d in getattr(node, "decorator_list", ())]
        assert is_private or is_overload or ast.get_docstring(node), f"{module.place}: {name}"


def test_every_recipe_field_is_documented():
    """The help of the command line is made of these sentences."""
    assert not [path for path, text in field_docs(Recipe).items() if not text]


@pytest.mark.parametrize("name", sorted({*deit.__all__, *dir(deit)}))
def test_every_public_name_exists(name):
    """What is looked up only when it is used is at least there."""
    assert getattr(deit, name) is not None


@pytest.mark.parametrize("module", all_modules().values(), ids=lambda module: module.name)
def test_docstring_examples_run(module):
    """An example that does not give what it says is worse than none."""
    runner = doctest.DocTestRunner(optionflags=doctest.REPORT_ONLY_FIRST_FAILURE)
    report: list[str] = []
    for example in examples_of(module):
        runner.run(example, out=report.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(report)


def test_docstring_examples_are_found():
    """As many as there are prompts in docstrings; else the test above would test nothing."""
    found = sum(
        len(test.examples) for module in all_modules().values() for test in examples_of(module)
    )
    written = sum(text_of(module.path).count("    >>> ") for module in all_modules().values())
    assert found == written > 30


@pytest.mark.parametrize("document", documents(), ids=lambda path: path.name)
def test_files_and_tests_that_documents_name_exist(document):
    """`src/...`, `tests/...`, `docs/...`, and the test function behind `::`."""
    for place, function in PLACE.findall(text_of(document)):
        paths = list(ROOT.glob(place)) if "*" in place else [ROOT / place]
        assert paths, f"{document.name} names {place}"
        assert all(path.exists() for path in paths), f"{document.name} names {place}"
        if function:
            defined = f"def {function}(" in text_of(paths[0])
            assert defined, f"{document.name} names {place}::{function}"


def test_every_decision_record_that_is_mentioned_exists():
    """In code, tests and documents."""
    records = {path.name[:4] for path in (ROOT / "docs/decisions").glob("[0-9]*.md")}
    places = [module.path for module in all_modules().values()] + documents()
    for path in [*places, *ROOT.glob("tests/**/*.py")]:
        mentioned = {"".join(match) for match in RECORD.findall(text_of(path))}
        assert mentioned <= records, f"{path}: {sorted(mentioned - records)}"


def test_decision_records_are_numbered_without_gaps_and_say_everything():
    """A number means one record, for ever; each has the same five parts."""
    records = sorted((ROOT / "docs/decisions").glob("[0-9]*.md"))
    assert [int(path.name[:4]) for path in records] == list(range(1, len(records) + 1))
    for path in records:
        headings = re.findall(r"^## (.+)$", text_of(path), re.MULTILINE)
        expected = ["Context", "Decision", "Consequences", "Tests", "The other behaviour"]
        assert headings == expected, path.name


@pytest.mark.parametrize("document", documents(), ids=lambda path: path.name)
def test_links_between_documents_resolve(document):
    """The file exists, and where a link names a heading, so does that."""
    for target in LINK.findall(text_of(document)):
        if "://" in target or target.startswith("mailto:"):
            continue
        file, _, anchor = target.partition("#")
        path = (document.parent / file).resolve() if file else document
        assert path.exists(), f"{document.name} links to {target}"
        assert not anchor or anchor in anchors_of(path), f"{document.name} links to {target}"


def anchors_of(path: Path) -> set[str]:
    """The names that GitHub gives to a document's headings."""
    headings = re.findall(r"^#+ (.+)$", text_of(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_no_file_names_a_place_on_somebodys_machine():
    """Paths of home or working folders mean nothing to anyone else."""
    for path in tracked_files():
        try:
            lines = text_of(path).splitlines()
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(lines, start=1):
            assert not MACHINE_PATH.search(line), f"{path.relative_to(ROOT)}:{number}: {line}"
