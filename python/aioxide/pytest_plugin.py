"""A plugin for pytest: the tests of pytest-asyncio and of anyio's plugin run on our loop.

    pytest -p aioxide.pytest_plugin

or ``pytest_plugins = ["aioxide.pytest_plugin"]`` in the outermost conftest.py. It replaces the loop (and so the tasks
that it makes) and not asyncio; for that: ``python -m aioxide -m pytest``. A test of anyio's that asks for a backend
itself keeps it.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import pytest

from . import AbstractEventLoop, new_event_loop


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], AbstractEventLoop]]:
    """The factories that pytest-asyncio makes loops by: ours, and no other."""
    return {"aioxide": new_event_loop}


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Anyio's plugin has a fixture of that name, too; of two, pytest takes the one that was registered later."""
    if config.pluginmanager.hasplugin("anyio"):
        plugin = types.ModuleType("aioxide.anyio")
        plugin.anyio_backend = pytest.fixture(_backend, scope="module", name="anyio_backend")
        config.pluginmanager.register(plugin)


def _backend() -> tuple[str, dict[str, Any]]:
    """The backend that a test of anyio's runs on if it does not say so itself."""
    return "asyncio", {"loop_factory": new_event_loop}
