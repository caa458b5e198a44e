"""Which of several incarnations has the fewest calls under way."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Balance", "Entry"]


class Entry:
    """An incarnation of a pool's member.

    calls       how many calls of the pool are under way
    present     whether it is given calls
    idle_since  when it has become idle; 0.0 if nobody has asked for it
    """

    __slots__ = ("calls", "idle_since", "incarnation", "member", "present")

    def __init__(self, incarnation: Any, member: Any) -> None:
        self.incarnation = incarnation
        self.member = member
        self.calls = 0
        self.present = False
        self.idle_since = 0.0


class Balance:
    """Entries by how many calls they have. Every method takes constant time; none is thread-safe.

    Of several with as few calls, the one that was used last is taken: its caches are warm, and the
    others become idle, which a pool that shrinks needs.
    """

    def __init__(self) -> None:
        self._levels: list[dict[Entry, None]] = [{}, {}]
        self._lowest = 0  # no level below it has entries
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(self, entry: Entry) -> None:
        """Give the entry calls from now on."""
        entry.present = True
        self._size += 1
        self._put(entry)

    def remove(self, entry: Entry) -> None:
        """Give the entry no more calls. Idempotent."""
        if entry.present:
            entry.present = False
            self._size -= 1
            del self._levels[entry.calls][entry]

    def least(self) -> Entry | None:
        """The entry that would be taken; None if there is none."""
        if not self._size:
            return None
        levels, lowest = self._levels, self._lowest
        while not levels[lowest]:
            lowest += 1
        self._lowest = lowest
        return next(reversed(levels[lowest]))

    def take(self) -> Entry | None:
        """The entry with the fewest calls, with one more."""
        if not self._size:
            return None
        levels, lowest = self._levels, self._lowest
        while not levels[lowest]:
            lowest += 1
        self._lowest = lowest
        entry = levels[lowest].popitem()[0]
        entry.calls = lowest = lowest + 1
        if lowest == len(levels):
            levels.append({})
        levels[lowest][entry] = None
        return entry

    def leave(self, entry: Entry) -> None:
        """Note the end of a call, also of an entry that has been removed."""
        calls = entry.calls
        entry.calls = calls - 1
        if entry.present:
            del self._levels[calls][entry]
            self._levels[calls - 1][entry] = None
            if calls <= self._lowest:
                self._lowest = calls - 1

    def idle(self) -> list[Entry]:
        """The entries without calls, the one that was used longest ago first."""
        return list(self._levels[0])

    def _put(self, entry: Entry) -> None:
        while entry.calls >= len(self._levels):
            self._levels.append({})
        self._levels[entry.calls][entry] = None
        self._lowest = min(self._lowest, entry.calls)
