"""Plant each bug of `bugs.toml` in a copy of the source and see that its test turns red.

    python tests/mutations/run.py [NAME ...]

Tries the bugs of these names, or all. The source itself is not touched. The exit code is 1 when a
bug goes unnoticed.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
BUGS = Path(__file__).with_name("bugs.toml")

PASSED, FAILED = 0, 1  # pytest's exit codes; others mean that nothing was tested


@dataclass(frozen=True)
class Bug:
    """A change that a person could make by mistake.

    Attributes:
        name: what goes wrong, in a few words.
        file: the file below `src/deit` that it is in.
        old: text that stands in it exactly once.
        new: what stands there instead.
        test: a test that must fail then, as pytest names it, below `tests`.
    """

    name: str
    file: str
    old: str
    new: str
    test: str

    def is_in(self, text: str) -> bool:
        """Whether the old text stands in the file's text exactly once."""
        return text.count(self.old) == 1


def read_bugs() -> list[Bug]:
    """All planted bugs."""
    return [Bug(**entry) for entry in tomllib.loads(BUGS.read_text(encoding="utf-8"))["bug"]]


def source_of(bug: Bug, src: Path = ROOT / "src") -> Path:
    """The file that a bug is planted in."""
    return src / "deit" / bug.file


@contextlib.contextmanager
def copied_source() -> Iterator[Path]:
    """A copy of `src` that is removed afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        src = Path(folder) / "src"
        shutil.copytree(ROOT / "src", src, ignore=shutil.ignore_patterns("__pycache__"))
        yield src


@contextlib.contextmanager
def planted(bug: Bug, src: Path) -> Iterator[None]:
    """The bug in the copy, for the time of a `with` block."""
    path = source_of(bug, src)
    text = path.read_text(encoding="utf-8")
    if not bug.is_in(text):
        raise ValueError(f"{bug.name}: its old text does not stand in {bug.file} exactly once")
    path.write_text(text.replace(bug.old, bug.new), encoding="utf-8")
    try:
        yield
    finally:
        path.write_text(text, encoding="utf-8")


def run_tests(tests: Sequence[str], src: Path) -> tuple[int, str]:
    """pytest's exit code and output for some tests, with the package taken from ``src``."""
    names = [f"tests/{test}" for test in tests]
    options = ["-x", "-q", "-m", "", "-p", "no:cacheprovider", "-p", "no:xdist", "--no-header"]
    environment = os.environ | {"PYTHONPATH": str(src), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", *options, *names]
    finished = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    return finished.returncode, finished.stdout + finished.stderr


def check_ground(bugs: Sequence[Bug], src: Path) -> None:
    """The tests are green without a bug, and it is the copy that they test.

    Raises:
        RuntimeError: when a red test would prove nothing.
    """
    tests = sorted({bug.test for bug in bugs})
    code, output = run_tests(tests, src)
    if code != PASSED:
        raise RuntimeError(f"these tests fail without any bug:\n{output}")
    nonsense = Bug("", "__init__.py", "import importlib", "raise OSError", "")
    with planted(nonsense, src):
        if run_tests(tests[:1], src)[0] == PASSED:
            raise RuntimeError("a package that cannot be imported passes: not the copy is tested")


def try_bug(bug: Bug, src: Path) -> str:
    """What is wrong, or nothing when the bug is noticed."""
    with planted(bug, src):
        code, output = run_tests([bug.test], src)
    if code == FAILED:
        return ""
    outcome = "goes unnoticed" if code == PASSED else f"ends pytest with {code}"
    return f"{bug.name}: {outcome} in {bug.test}\n{output}"


def main(names: Sequence[str]) -> int:
    """Try the named bugs, or all; 1 when one goes unnoticed."""
    known = {bug.name: bug for bug in read_bugs()}
    unknown = [name for name in names if name not in known]
    if unknown:
        print(f"no such bug: {', '.join(unknown)}\nknown: {', '.join(known)}", file=sys.stderr)
        return 2
    bugs = [known[name] for name in names] or list(known.values())
    with copied_source() as src:
        check_ground(bugs, src)
        faults = []
        for bug in bugs:
            fault = try_bug(bug, src)
            print(f"{'MISSED' if fault else 'found '}  {bug.name}", flush=True)
            faults += [fault] if fault else []
    print("\n".join(faults), end="")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
