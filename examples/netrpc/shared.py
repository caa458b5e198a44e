"""What the host and the Python plugin of this example have in common.

The handshake has to be the same in every host and every plugin, whatever their language: see
go/words.go. So have the names of the structs' fields, which are Go's: `by_length` is `ByLength`.
"""

from __future__ import annotations

from pygo_plugin import HandshakeConfig, gob

HANDSHAKE = HandshakeConfig(
    protocol_version=1,
    magic_cookie_key="WORDS_EXAMPLE_PLUGIN",
    magic_cookie_value="5a0c1d9e-words",
)


@gob.struct
class CountArgs:
    text: gob.Uint32 = 0  # the id of a reader that the host lends
    progress: gob.Uint32 = 0  # the id of an object that the host lends, with the method Report
    every: int = 0


@gob.struct
class Counts:
    lines: int = 0
    words: int = 0
    longest: str = ""
    by_length: dict[int, int] = gob.field(default_factory=dict)


class Counter:
    """The methods of the plugin, by which the host's proxy and the plugin know the types."""

    def greet(self, name: str) -> str:
        raise NotImplementedError

    def count(self, args: CountArgs) -> Counts:
        raise NotImplementedError
