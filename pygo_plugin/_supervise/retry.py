"""Which calls are repeated that the end of a plugin has cut off."""

from __future__ import annotations

import sys

from pygo_plugin._grpc.known import described
from pygo_plugin._supervise.options import Idempotent
from pygo_plugin.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["IDEMPOTENT_REPETITIONS", "Retries", "is_idempotent"]

IDEMPOTENT_REPETITIONS = 3  # the most of each call that a descriptor calls so


class Retries:
    """How often the calls of a method are repeated. `option` is the option `retry`."""

    def __init__(self, option: Any) -> None:
        self._option = option

    def of(self, path: str) -> int:
        """The most repetitions of a call of `/package.Service/Method`, or of `Service.Method`."""
        option = self._option
        if option is None:
            return 0
        if isinstance(option, Idempotent):
            return IDEMPOTENT_REPETITIONS * is_idempotent(path)
        full = path.lstrip("/")
        short = full.replace("/", ".").rpartition(".")[2]
        for name in (path, full, short):
            if name in option:
                return int(option[name])
        return 0

    def refuse_marker(self, name: str) -> None:
        """Raises: ConfigError if the option is `idempotent`, for a plugin that speaks net/rpc."""
        if isinstance(self._option, Idempotent):
            raise ConfigError(
                f"{name}: retry=idempotent asks the descriptors of protobuf, and this plugin "
                'speaks net/rpc, which has none: name the methods, as in retry={"Get": 3}'
            )


def is_idempotent(path: str) -> bool:
    """Whether the descriptor of the method says `idempotency_level` IDEMPOTENT or NO_SIDE_EFFECTS.

    False if protobuf does not know the method. Nothing is imported for it.
    """
    known = described(path)
    descriptor = getattr(known, "source", None)
    if descriptor is None:
        pools: Any = sys.modules.get("google.protobuf.descriptor_pool")
        if pools is None:
            return False
        service, _, method = path.lstrip("/").rpartition("/")
        try:
            descriptor = pools.Default().FindServiceByName(service).methods_by_name[method]
        except KeyError:
            return False
    return bool(descriptor.GetOptions().idempotency_level)
