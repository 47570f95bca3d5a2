"""Which tar files a pattern means, and one message for all that are missing."""

from pathlib import Path

import pytest

from deit.data import shard_paths
from deit.data.shard_paths import expand_braces, find_shards
from deit.errors import UserError


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("a.tar", "a.tar"),
        ("{a,b}.tar", "a.tar b.tar"),
        ("x{,y}.tar", "x.tar xy.tar"),
        ("{0..3}", "0 1 2 3"),
        ("{8..11}", "8 9 10 11"),
        ("{08..11}", "08 09 10 11"),
        ("{8..011}", "008 009 010 011"),
        ("{000..002}", "000 001 002"),
        ("{3..1}", "3 2 1"),
        ("{-1..1}", "-1 0 1"),
        ("{-01..1}", "-01 000 001"),
        ("{5..5}", "5"),
        ("{a,b}{0..1}", "a0 a1 b0 b1"),
        ("{train-{08..10},val}.tar", "train-08.tar train-09.tar train-10.tar val.tar"),
        ("{a{1,2},{b,c}3}", "a1 a2 b3 c3"),
        ("{x}.tar", "{x}.tar"),
        ("{a{1,2}}", "{a1} {a2}"),
        ("{a..c}", "{a..c}"),
        ("{}", "{}"),
        ("{train,val}/{0..1}.tar", "train/0.tar train/1.tar val/0.tar val/1.tar"),
    ],
)
def test_braces_stand_for_what_bash_makes_of_them(pattern: str, expected: str) -> None:
    """Worked out by hand, and seen in bash; letters have no ranges here."""
    assert list(expand_braces(pattern)) == expected.split(" ")


@pytest.mark.parametrize("pattern", ["{a,b", "a}", "{a,{b}", "}a{"])
def test_a_brace_without_its_partner_is_refused(pattern: str) -> None:
    """A shell would take it as a letter; no data set is called like that."""
    with pytest.raises(UserError, match="a brace without its partner"):
        list(expand_braces(pattern))


def files(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("a-0.tar", ["a-0.tar"]),
        ("a-{0..2}.tar", ["a-0.tar", "a-1.tar", "a-2.tar"]),
        ("a-0.tar,b/c.TAR", ["a-0.tar", "b/c.TAR"]),
        ("{a-{0,2}.tar,b/c.TAR}", ["a-0.tar", "a-2.tar", "b/c.TAR"]),
        ("a-{1..2}.tar, a-0.tar", ["a-1.tar", "a-2.tar", "a-0.tar"]),
        ("only", ["only/1.tar", "only/2.tar"]),
        ("odd,{name}.tar", ["odd,{name}.tar"]),
        ("mixed", None),
        ("flat", None),
        ("empty", None),
        ("cifar10", None),
        ("no/such/folder", None),
        ("photos.zip", None),
    ],
)
def test_shards_are_found(
    spec: str, expected: list[str] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One, a pattern, several, a folder of nothing else; what lies there by the very name first."""
    monkeypatch.chdir(files(tmp_path, "a-0.tar", "a-1.tar", "a-2.tar", "b/c.TAR"))
    files(tmp_path, "only/2.tar", "only/1.tar", "only/.hidden", "odd,{name}.tar")
    files(tmp_path, "mixed/x.tar", "mixed/cat/1.png", "flat/1.png", "flat/2.tar")
    (tmp_path / "empty").mkdir()
    assert find_shards(spec) == expected


def test_many_names_with_commas_are_no_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Together they are longer than a file name may be."""
    names = [f"train-{number:04d}.tar" for number in range(100)]
    monkeypatch.chdir(files(tmp_path, *names))
    assert find_shards(",".join(names)) == names


MISTAKES = {
    "a-{0..3}.tar": r"2 of 4 shards are missing: a-2\.tar, a-3\.tar\n(.|\n)*mean c-0\.tar",
    "c-{00..01}.tar": r"2 of 2 shards are missing: c-00.tar, c-01.tar\n(.|\n)*did you mean c-0.tar",
    "a-00.tar": r"a shard is missing: a-00.tar\n(.|\n)*did you mean a-0.tar\?",
    "a-*.tar": r"missing(.|\n)*\{000\.\.009\}",
    "no/a-{0..1}.tar": "there is no folder no$",
    "a-{0..1}": r"did you mean a-\{0\.\.1\}\.tar\?",
    "a-{0..1}.tar.gz": r"compressed archives: a-0.tar.gz, a-1.tar.gz\n(.|\n)*gunzip a-0.tar.gz",
    "x.tgz": "compressed archives: x.tgz",
    "x.tar.zst": "leaves a .tar file",
    "{a-0.tar,photos}": r"no \.tar files: photos\n",
    "a-0.tar,a-{0..1}.tar": r"given twice: a-0\.tar\n",
    "a-{0..999999999}.tar": "more than 100,000 files",
    "{0..999999}{0..999999}.tar": "more than 100,000 files",
    "a-{0..1.tar": "a brace without its partner",
    "strays": r"other files: LICENSE\n",
    "zipped": r"compressed archives: zipped/1\.tar\.gz\n",
}


@pytest.mark.parametrize("spec", MISTAKES)
def test_a_mistake_is_answered_by_one_clear_message(
    spec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was given, what is allowed, what to do."""
    monkeypatch.chdir(files(tmp_path, "a-0.tar", "a-1.tar", "c-0.tar"))
    files(tmp_path, "strays/1.tar", "strays/LICENSE", "zipped/1.tar.gz", "zipped/2.tar")
    with pytest.raises(UserError, match=MISTAKES[spec]) as caught:
        find_shards(spec)
    assert caught.value.allowed
    assert caught.value.todo


def test_all_missing_shards_are_named(tmp_path: Path) -> None:
    """Not the first few only: one copies them again in one go."""
    with pytest.raises(UserError) as caught:
        find_shards(f"{tmp_path}/{{00..60}}.tar")
    for number in range(61):
        assert f"/{number:02d}.tar" in caught.value.given
    assert shard_paths.MOST_SHARDS > 61
