"""One class list, by name; the mapping of splits and teachers onto it.

Class indices mean nothing outside of the list that they belong to. Wherever two parts meet
(training and validation images, a teacher and its student, a weights file and a data set), indices
are translated through names, and a name that has no partner is an error that says so.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Int64

from deit.data.names import printable
from deit.errors import UserError, did_you_mean

_MOST_NAMED = 8


@dataclass(frozen=True, slots=True)
class ClassList:
    """The names of the classes; a class's index is its place.

    >>> classes = ClassList(("cat", "dog", "fox"))
    >>> classes.index("dog"), len(classes)
    (1, 3)
    >>> classes.map_from(ClassList(("fox", "cat")), complete=False)
    array([2, 0])

    Raises:
        UserError: when it is empty or a name stands twice.
    """

    names: tuple[str, ...]
    _places: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_places", {name: place for place, name in enumerate(self.names)})
        if not self.names:
            raise UserError("a class list without a class", "one name or more", "name the classes")
        if len(self._places) < len(self.names):
            twice = [name for name in self._places if self.names.count(name) > 1]
            raise UserError(
                f"classes that stand twice in the class list: {listed(twice)}",
                "each name once",
                "rename or merge them",
            )

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def index(self, name: str) -> int:
        """The place of a class.

        Raises:
            UserError: for a name that is not in the list, with the nearest that is.
        """
        if name not in self._places:
            raise UserError(
                f"no class is called {printable(name)}",
                listed(self.names),
                printable(did_you_mean(name, self.names)) or "use one of these names",
            )
        return self._places[name]

    def map_from(
        self,
        other: "ClassList",
        *,
        complete: bool = True,
        these: str = "these classes",
        others: str = "the other classes",
    ) -> Int64[np.ndarray, "others"]:
        """Where each class of ``other`` stands here: ``map_from(other)[index there] = index here``.

        Args:
            other: the list that indices come from.
            complete: also ask that every class of this list is in ``other`` (a teacher must know
                them all; a validation split may lack some).
            these, others: how the two lists are called in messages.

        Raises:
            UserError: naming the classes that have no partner.
        """
        extra = [name for name in other.names if name not in self]
        missing = [name for name in self.names if name not in other] if complete else []
        if extra or missing:
            raise _mismatch(extra, missing, self, these, others)
        return np.array([self._places[name] for name in other.names], dtype=np.int64)


def listed(names: Iterable[str]) -> str:
    """Names for a message: the first few, and how many more there are.

    >>> listed(f"class{number}" for number in range(10))
    'class0, class1, class2, class3, class4, class5, class6, class7 and 2 more'
    """
    shown = [printable(name) for name in names]
    rest = len(shown) - _MOST_NAMED
    return ", ".join(shown[:_MOST_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _mismatch(
    extra: list[str], missing: list[str], known: ClassList, these: str, others: str
) -> UserError:
    parts = []
    if extra:
        parts.append(f"{others} have what {these} lack: {listed(extra)}")
    if missing:
        parts.append(f"{others} lack what {these} have: {listed(missing)}")
    todo = printable(did_you_mean(extra[0], known.names)) if extra else ""
    return UserError(
        "; ".join(parts),
        f"the same names in both; {these} are {listed(known.names)}",
        todo or "rename, add or remove classes until the names agree",
    )
