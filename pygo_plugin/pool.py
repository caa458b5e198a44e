"""Pools: several processes of one plugin, which share its calls. See docs/pools.md."""

from pygo_plugin._supervise.pool import Member, Pool

__all__ = ["Member", "Pool"]
