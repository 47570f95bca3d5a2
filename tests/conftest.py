"""Shapes in signatures are checked while testing; real data is used where it is present."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

install_import_hook("deit", "typechecking.check")

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with trained weights and real images, or a skip with the reason."""
    folder = Path(os.environ.get("DEIT_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set DEIT_TEST_DATA to its folder")
    return folder


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing is read from the user's cache folder, nor written to it, by subprocesses neither."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
