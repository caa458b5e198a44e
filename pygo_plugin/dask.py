"""Plugins on the workers of a Dask cluster. See docs/dask.md. Needs the extra `dask`."""

from pygo_plugin.errors import _needing

with _needing("pygo_plugin.dask"):
    from pygo_plugin._dask.plugins import DaskPlugins, dask_plugins

__all__ = ["DaskPlugins", "dask_plugins"]
