"""Shapes in signatures are checked while testing; real data is used where it is present."""

import os
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
