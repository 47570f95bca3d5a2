"""The source tree as these tests read it: its modules, and what each of them imports."""

import ast
import functools
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
SRC = ROOT / "src"


@dataclass(frozen=True)
class Module:
    """One file of the package, parsed but not imported."""

    name: str
    path: Path
    tree: ast.Module

    @property
    def folder(self) -> str:
        """The part of the package that it belongs to: `data` for `deit.data.order`."""
        parts = self.name.split(".")
        return parts[1] if len(parts) > 1 else ""

    @property
    def place(self) -> str:
        """The file's path as documents write it."""
        return self.path.relative_to(ROOT).as_posix()


@functools.cache
def all_modules() -> dict[str, Module]:
    """Every module of the package by name, `deit` itself among them."""
    modules = {}
    for path in sorted(SRC.glob("deit/**/*.py")):
        parts = path.relative_to(SRC).with_suffix("").parts
        name = ".".join(parts).removesuffix(".__init__")
        modules[name] = Module(name, path, ast.parse(path.read_text(encoding="utf-8")))
    return modules


def imported_names(tree: ast.AST) -> list[tuple[int, str]]:
    """Line and full name of everything that is imported, inside functions too.

    `from a import b` is `a.b`, whether b is a module or a name in one.
    """
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute here"
            found += [(node.lineno, f"{node.module}.{alias.name}") for alias in node.names]
    return found


def imported_modules(module: Module) -> list[tuple[int, str]]:
    """Line and name of every module of the package that this one imports."""
    found = []
    for line, full_name in imported_names(module.tree):
        if full_name.split(".")[0] == "deit":
            name = full_name
            while name not in all_modules():
                name = name.rpartition(".")[0]
            found.append((line, name))
    return found
