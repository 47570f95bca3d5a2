"""The layering of decision record 0009: what may import what, and what must stay light."""

import ast
import graphlib
import subprocess
import sys

import pytest

import deit

from .source_tree import Module, all_modules, imported_modules, imported_names

FLOORS = (
    ("errors", "config", "tensors", "randomness", "distributed"),
    ("data", "model", "distillation", "optim"),
    ("recipes", "run"),
    ("classifier", "foreign", "huggingface", "artifacts"),
    ("measuring",),
    ("report",),
    ("programs",),
    ("students", "demo", "benchmarking"),
    ("cli",),
)
BESIDE = {("run", "recipes")}
"""Folder to folder on one floor: a run folder keeps its recipe."""

WITHOUT_TORCH = (
    "deit",
    "deit.errors",
    "deit.config",
    "deit.randomness",
    "deit.data.order",
    "deit.data.plan",
    "deit.data.mix_plan",
    "deit.data.classes",
    "deit.data.images",
    "deit.data.preprocess",
    "deit.data.sources",
    "deit.model.variants",
    "deit.distillation.config",
    "deit.optim.config",
    "deit.run.folder",
    *sorted(name for name in all_modules() if name.startswith(("deit.recipes", "deit.cli"))),
)


def floor_of(folder: str) -> int:
    found = [number for number, folders in enumerate(FLOORS) if folder in folders]
    assert found, f"src/deit/{folder} stands on no floor: add it to FLOORS and to record 0009"
    return found[0]


def may_import(folder: str, other: str) -> bool:
    if floor_of(other) != floor_of(folder):
        return floor_of(other) < floor_of(folder)
    both_files = is_file(folder) and is_file(other)
    return folder == other or both_files or (folder, other) in BESIDE


def is_file(part: str) -> bool:
    """Whether a part is one file; files on a floor may know each other, folders may not."""
    return all_modules()[f"deit.{part}"].path.name != "__init__.py"


@pytest.mark.parametrize("module", all_modules().values(), ids=lambda module: module.name)
def test_a_module_imports_only_lower_floors_or_its_own_folder(module: Module):
    """So a reader of one floor needs to know only those below, and parts can be replaced singly."""
    for line, name in imported_modules(module):
        other = all_modules()[name].folder
        if module.name != "deit" and other:
            assert may_import(module.folder, other), f"{module.place}:{line} imports {name}"


def test_the_root_imports_nothing_when_it_is_imported():
    """`import deit` names its public things for type checkers only, and looks them up when used."""
    root = all_modules()["deit"]
    when_imported = [name for _, name in imported_names_at_import(root)]
    assert not [name for name in when_imported if name.startswith("deit.")]


@pytest.mark.parametrize("module", all_modules().values(), ids=lambda module: module.name)
def test_no_module_goes_through_the_public_names(module: Module):
    """Inside the library a thing is imported from its home, so that the floors can be seen."""
    public = {f"deit.{name}" for name in deit.__all__}
    used = public & {name for _, name in imported_names(module.tree)}
    assert module.name == "deit" or not used


def test_no_module_hides_a_public_name():
    """Importing a module sets its name in the package, in front of what is looked up when used."""
    assert not [name for name in deit.__all__ if f"deit.{name}" in all_modules()]


def test_no_imports_go_in_a_circle():
    """Imports inside functions count: a circle that works is one that cannot be read."""
    graph = {
        name: {other for _, other in imported_modules(module) if all_modules()[other].folder}
        for name, module in all_modules().items()
        if module.folder
    }
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_packages_are_empty():
    """An `__init__` holds one sentence, so that importing one module imports one module."""
    for module in all_modules().values():
        if module.path.name == "__init__.py" and module.name != "deit":
            assert len(module.tree.body) == 1, module.place


def test_only_the_command_line_knows_its_library():
    """Where tyro is missing, everything else still imports and runs."""
    for module in all_modules().values():
        imported = {name.split(".")[0] for _, name in imported_names(module.tree)}
        assert "tyro" not in imported or module.folder == "cli", module.place


def test_the_light_modules_import_no_torch():
    """What `deit train --help` reads must not cost the seconds that torch takes to import."""
    assert import_apart(WITHOUT_TORCH) == ""


@pytest.mark.parametrize(
    ("folder", "other", "allowed"),
    [
        ("data", "model", False),
        ("report", "programs", False),
        ("programs", "report", True),
        ("recipes", "run", False),
        ("run", "recipes", True),
        ("artifacts", "foreign", True),
        ("tensors", "model", False),
    ],
)
def test_the_rules_can_be_broken(folder, other, allowed):
    """Each rule above, kept once and broken once."""
    assert may_import(folder, other) is allowed


def test_imports_are_seen_wherever_they_stand():
    """In functions, in classes, under conditions."""
    text = "if x:\n    def f():\n        from deit.model import build\n        import tyro as t\n"
    assert imported_names(ast.parse(text)) == [(3, "deit.model.build"), (4, "tyro")]


def test_a_heavy_module_is_noticed():
    """The test of light modules can fail: this one imports torch, as it should."""
    assert "importing deit.tensors imported {'torch'}" in import_apart(["deit.tensors"])


def import_apart(names) -> str:
    """Import modules one after another in a new process; what went wrong there."""
    program = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(name)\n"
        "    heavy = {'torch', 'torchvision', 'timm', 'sklearn', 'matplotlib'} & set(sys.modules)\n"
        "    assert not heavy, f'importing {name} imported {heavy}'\n"
    )
    command = [sys.executable, "-c", program, *names]
    return subprocess.run(command, capture_output=True, text=True).stderr


def imported_names_at_import(module: Module) -> list[tuple[int, str]]:
    """As `imported_names`, without functions and without what stands under TYPE_CHECKING."""
    found = []
    for statement in module.tree.body:
        if isinstance(statement, ast.If) and ast.unparse(statement.test) == "TYPE_CHECKING":
            continue
        if not isinstance(statement, ast.FunctionDef | ast.ClassDef):
            found += imported_names(statement)
    return found
