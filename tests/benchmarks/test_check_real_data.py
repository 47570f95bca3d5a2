"""A check of real images: CIFAR-10, in which near duplicates are known (arXiv 1902.00423)."""

import io
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from deit.programs.check_data import check_data

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def cifar(shared_data: Path) -> list[Path]:
    shards = [shared_data / "cifar10-train-0.tar", shared_data / "cifar10-test.tar"]
    if not all(shard.is_file() for shard in shards):
        pytest.skip("no shards of CIFAR-10")
    return shards


def test_cifar_has_near_duplicates_and_no_errors(cifar: list[Path]) -> None:
    """10,000 training and 10,000 test images: groups that span both, none with two labels."""
    checked = check_data(",".join(map(str, cifar)))
    counts = {finding.kind: len(finding.items) for finding in checked.findings}
    assert checked.images == {"train": 10_000, "val": 10_000}
    assert not checked.failed
    assert counts.keys() == {"near-splits", "near", "odd-colour"}
    assert 25 <= counts["near-splits"] <= 45
    assert 20 <= counts["near"] <= 40


def test_faults_planted_into_cifar_are_found(cifar: list[Path], tmp_path: Path) -> None:
    """Leaks, other labels, compressed copies, a cut file: every one of a hundred, by name."""
    planted = tmp_path / "planted.tar"
    expected: dict[str, set[str]] = {
        "duplicate-splits": set(),
        "duplicate-labels": set(),
        "near": set(),
    }
    with tarfile.open(cifar[0]) as tar, tarfile.open(planted, "w") as out:

        def add(name: str, content: bytes) -> None:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            out.addfile(member, io.BytesIO(content))

        images = [member for member in tar.getmembers() if member.isfile()][::97][:100]
        for number, member in enumerate(images):
            content = tar.extractfile(member).read()
            label = member.name.split("/")[-2]
            other = "frog" if label != "frog" else "ship"
            compressed = io.BytesIO()
            Image.open(io.BytesIO(content)).save(compressed, "JPEG", quality=90)
            match number % 3:
                case 0:
                    add(name := f"test/{label}/leak{number}.png", content)
                    expected["duplicate-splits"].add(name)
                case 1:
                    add(name := f"train/{other}/moved{number}.png", content)
                    expected["duplicate-labels"].add(name)
                case 2:
                    add(name := f"train/{label}/again{number}.jpg", compressed.getvalue())
                    expected["near"].add(name)
        add("train/cat/cut.png", content[:300])
    checked = check_data(",".join(map(str, [*cifar, planted])))
    found = {
        finding.kind: {image.name for item in finding.items for image in item.images}
        for finding in checked.findings
    }
    assert expected["duplicate-splits"] <= found["duplicate-splits"]
    assert expected["duplicate-labels"] <= found["duplicate-labels"]
    near = found["near"] | found["near-splits"] | found.get("near-labels", set())
    assert len(expected["near"] & near) >= 0.95 * len(expected["near"])
    assert found["unusable"] == {"train/cat/cut.png"}
