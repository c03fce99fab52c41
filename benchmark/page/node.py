"""A record's plain values, read strictly: whatever is not as it should be is named in one sentence."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.errors import DataError
from preprocess.untrusted import printable

Array = NDArray[np.float64]

LARGEST = 1e30
"""Of a number: no rate, time or size comes near, and sums, products and axes of figures stay finite."""


class Estimate(NamedTuple):
    """A number and its 95 % interval; None where it is not known."""

    value: float | None
    low: float | None
    high: float | None

    @classmethod
    def of(cls, node: "Node | None") -> "Estimate":
        """The value, low and high of a record's object; all None for None."""
        return cls(None, None, None) if node is None else node.as_estimate("value")


class Node:
    """A JSON object and where it lies; every method raises DataError for a value of another kind."""

    def __init__(self, value: Any, where: str) -> None:
        self._where = where
        if not isinstance(value, dict):
            raise self._wrong(value, "an object")
        self._values: dict[str, Any] = value

    def child(self, key: str) -> "Node":
        """An object that must be there."""
        return Node(self._get(key), self._at(key))

    def optional(self, key: str) -> "Node | None":
        """An object, or None for null."""
        return None if self._get(key) is None else self.child(key)

    def maybe(self, key: str) -> "Node | None":
        """As ``optional``, for what not every record of this version has."""
        return self.optional(key) if key in self else None

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def children(self, key: str) -> "list[Node]":
        """A list of objects; empty for null."""
        items = self._list(key) if self._get(key) is not None else ()
        return [Node(item, f"{self._at(key)}[{index}]") for index, item in enumerate(items)]

    def items(self) -> "list[tuple[str, Node]]":
        """All members, which must be objects."""
        return [(key, self.child(key)) for key in self._values]

    def number(self, key: str) -> float | None:
        """A number up to ``LARGEST``, or None for null."""
        value = self._get(key)
        if value is None:
            return None
        if not _is_number(value):
            raise self._wrong(value, "a number", key)
        return float(value)

    def whole(self, key: str) -> int:
        """A whole number."""
        value = self._get(key)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self._wrong(value, "a whole number", key)
        return value

    def text(self, key: str) -> str:
        """A string, on one line."""
        value = self._get(key)
        if not isinstance(value, str):
            raise self._wrong(value, "a string", key)
        return printable(" ".join(value.split()))

    def maybe_text(self, key: str) -> str:
        """A string, empty for null."""
        return "" if self._get(key) is None else self.text(key)

    def maybe_list(self, key: str) -> list[str]:
        """A list of strings, empty for null, or where this record does not have it."""
        found = self._list(key) if self._values.get(key) is not None else ()
        return [Node({key: item}, self._where).text(key) for item in found]

    def plain(self, key: str) -> Any:
        """The value as it is; None where this record does not have it."""
        return self._values.get(key)

    def flag(self, key: str) -> bool:
        """True or false."""
        value = self._get(key)
        if not isinstance(value, bool):
            raise self._wrong(value, "true or false", key)
        return value

    def texts(self, key: str) -> dict[str, str]:
        """An object of strings, by names on one line."""
        node = self.child(key)
        return {printable(" ".join(name.split())): node.text(name) for name in node._values}

    def numbers(self, key: str) -> Array:
        """A list of numbers up to ``LARGEST``."""
        found = self._list(key)
        if wrong := [value for value in found if not _is_number(value)]:
            raise self._wrong(wrong[0], "a list of numbers", key)
        return np.array(found, dtype=np.float64)

    def estimate(self, key: str) -> Estimate:
        """An object of value, low and high; all None for null."""
        return Estimate.of(self.optional(key))

    def as_estimate(self, value: str) -> Estimate:
        """The member ``value`` with this object's low and high."""
        return Estimate(self.number(value), self.number("low"), self.number("high"))

    def _list(self, key: str) -> Sequence[Any]:
        value = self._get(key)
        if not isinstance(value, list):
            raise self._wrong(value, "a list", key)
        return value

    def _at(self, key: str) -> str:
        return f"{self._where}.{key}"

    def _get(self, key: str) -> Any:
        if key not in self._values:
            raise DataError(f"{self._where} has no {key!r}: {_REMEDY}")
        return self._values[key]

    def _wrong(self, value: Any, expected: str, key: str = "") -> DataError:
        found = repr(value)
        found = found if len(found) <= 40 else found[:37] + "..."
        return DataError(
            f"{self._at(key) if key else self._where} is {found}, expected {expected}: {_REMEDY}"
        )


def _is_number(value: Any) -> bool:
    """Whether it is a number that arithmetic and figures bear."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST


_REMEDY = "the record was changed or comes from another version, measure again"
