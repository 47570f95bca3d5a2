"""More than five hundred odd files: each shows its own pixels, or is refused with its reason."""

import json
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np

from deit.data.images import BadImage, decode_image, decode_size
from odd_files import OddFile, all_files

TESTS = Path(__file__).parents[1]

BOMBS = ("bomb", "81 megapixels of one bit", "long side", "zlib bomb")

MEASURE = """
import json, pickle, sys, time
from deit.data.images import BadImage, decode_image, decode_size
from odd_files.mutants import peak_megabytes

def cost(decode, data):
    before, seconds = peak_megabytes(), []
    for _ in range(3):
        start = time.process_time()
        try:
            decode(data, "bomb")
        except BadImage:
            seconds.append(time.process_time() - start)
    return min(seconds), peak_megabytes() - before

with open(sys.argv[1], "rb") as file:
    bombs = pickle.load(file)
costs = {f"{d.__name__} {name}": cost(d, data) for d in (decode_size, decode_image)
         for name, data in bombs.items()}
before, control = peak_megabytes(), b"x" * 2**24
print(json.dumps([costs, peak_megabytes() - before]))
"""


def problem(file: OddFile) -> str:
    """What is wrong with the answer to a file; nothing where it is right."""
    try:
        pixels = decode_image(file.data, file.kind)
    except BadImage as bad:
        if file.pixels is not None and not file.or_refused:
            return f"refused: {bad.reason}"
        return "" if re.search(file.reason, bad.reason) else f"another reason: {bad.reason}"
    return difference(pixels, file)


def difference(pixels: np.ndarray, file: OddFile) -> str:
    """How decoded pixels differ from those that the file was made of; nothing where they agree."""
    if file.pixels is None:
        return "not refused"
    if pixels.shape != file.pixels.shape:
        return f"{pixels.shape}, not {file.pixels.shape}"
    off_by = int(np.abs(pixels.astype(int) - file.pixels).max())
    return "" if off_by <= file.off_by else f"off by {off_by} levels"


def test_every_odd_file_is_shown_or_refused() -> None:
    """All kinds that we could think of, all wrong answers at once."""
    problems = {(file.kind, file.detail): problem(file) for file in all_files()}
    assert {place: wrong for place, wrong in problems.items() if wrong} == {}


def test_there_are_five_hundred_files_of_forty_kinds() -> None:
    """Half of them are to be shown, a quarter or more refused, and no two are the same."""
    files = all_files()
    shown = [file for file in files if file.pixels is not None and not file.or_refused]
    refused = [file for file in files if file.pixels is None]
    assert len(files) >= 500
    assert len({file.kind for file in files}) >= 40
    assert len(shown) >= len(files) / 2
    assert len(refused) >= len(files) / 4
    assert len({(file.kind, file.detail, file.data) for file in files}) == len(files)


def test_the_header_tells_the_size_of_what_is_shown() -> None:
    """Upright, as decoding gives it."""
    for file in all_files():
        if file.pixels is not None and not file.or_refused:
            assert decode_size(file.data, file.detail) == file.pixels.shape[:2], file.kind


def test_bombs_cost_nothing(tmp_path: Path) -> None:
    """Refused from the header in 5 ms of processor time, the best of three, and in 5 MB.

    Texts in a PNG, of which a megabyte is unpacked before they are refused, take 2.4 ms: they are
    allowed 20, all others a tenth of a millisecond and are allowed 5. They run in a process of
    their own, whose greatest size so far is then theirs; as a control it takes 16 MiB at last.
    """
    bombs = {f"{f.kind}, {f.detail}": f.data for f in all_files() if f.kind in BOMBS}
    (tmp_path / "bombs").write_bytes(pickle.dumps(bombs))
    command = [sys.executable, "-W", "error", "-c", MEASURE, str(tmp_path / "bombs")]
    finished = subprocess.run(command, capture_output=True, text=True, cwd=TESTS)
    assert finished.returncode == 0, finished.stderr[-2000:]
    costs, control = json.loads(finished.stdout)
    assert len(costs) == 2 * len(bombs) > 50
    late = {
        name: cost for name, cost in costs.items() if cost[0] > (0.02 if "zlib" in name else 0.005)
    }
    assert late == {}
    assert {name: cost for name, cost in costs.items() if cost[1] > 5} == {}
    assert control > 10
