"""Metadata of asyncio's calls: grpcio's class once the program has imported grpcio."""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, Iterator, KeysView, ValuesView
from typing import Any

from pygo_plugin._grpc.abstract import Abstract, imported

__all__ = ["Metadata", "metadata"]


class Metadata(Abstract):
    """Pairs of key and value, with the interface of grpc.aio.Metadata.

    Iterating yields the pairs, `metadata[key]` is the first value of a key, and `get_all(key)` all
    of its values. Values are str, or bytes if the key ends in "-bin".
    """

    _implements = ("aio.Metadata",)
    _metadata: dict[str, list[str | bytes]]  # grpc.aio.Metadata compares itself with it

    def __init__(self, *pairs: tuple[str, str | bytes]) -> None:
        self._metadata = {}
        for key, value in pairs:
            self.add(key, value)

    @classmethod
    def from_tuple(cls, raw_metadata: Iterable[tuple[str, str | bytes]]) -> Metadata:
        """The metadata of an iterable of pairs."""
        return cls(*raw_metadata)

    def add(self, key: str, value: str | bytes) -> None:
        """Add a value, after those that the key has."""
        self._metadata.setdefault(key, []).append(value)

    def get(self, key: str, default: Any = None) -> Any:
        """The first value of a key, or `default`."""
        values = self._metadata.get(key)
        return values[0] if values else default

    def get_all(self, key: str) -> list[str | bytes]:
        """All values of a key."""
        return self._metadata.get(key, [])

    def set_all(self, key: str, values: list[str | bytes]) -> None:
        """Replace all values of a key."""
        self._metadata[key] = values

    def delete_all(self, key: str) -> None:
        """Delete all values of a key. Raises: KeyError if it has none."""
        del self._metadata[key]

    def keys(self) -> KeysView[str]:
        """The keys, each once."""
        return self._metadata.keys()

    def values(self) -> ValuesView[list[str | bytes]]:
        """The lists of values."""
        return self._metadata.values()

    def items(self) -> ItemsView[str, list[str | bytes]]:
        """The keys, each with the list of its values."""
        return self._metadata.items()

    def __len__(self) -> int:
        return sum(map(len, self._metadata.values()))

    def __iter__(self) -> Iterator[tuple[str, str | bytes]]:
        return ((key, value) for key, values in self._metadata.items() for value in values)

    def __contains__(self, key: object) -> bool:
        return key in self._metadata

    def __getitem__(self, key: str) -> str | bytes:
        values = self._metadata[key]
        if not values:
            raise KeyError(key)
        return values[0]

    def __setitem__(self, key: str, value: str | bytes) -> None:
        self._metadata[key] = [value, *self.get_all(key)[1:]]

    def __delitem__(self, key: str) -> None:
        values = self._metadata[key]
        del values[:1]
        if not values:
            del self._metadata[key]

    def __eq__(self, other: object) -> bool:
        if isinstance(other, tuple):
            return tuple(self) == other
        grpc = imported()
        if isinstance(other, Metadata) or (grpc and isinstance(other, grpc.aio.Metadata)):
            return self._metadata == other._metadata
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]  # it can change

    def __add__(self, other: Any) -> Metadata:
        if isinstance(other, (tuple, Metadata)):
            return Metadata(*self, *other)
        return NotImplemented

    def __repr__(self) -> str:
        return f"Metadata({tuple(self)!r})"


def metadata(pairs: Iterable[tuple[str, str | bytes]]) -> Any:
    """The pairs as a grpc.aio.Metadata, or as a Metadata of this package without grpcio."""
    grpc = imported()
    return Metadata(*pairs) if grpc is None else grpc.aio.Metadata(*pairs)
