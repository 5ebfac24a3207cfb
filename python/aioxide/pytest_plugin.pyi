from collections.abc import Callable

import pytest

from .events import AbstractEventLoop

def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], AbstractEventLoop]]: ...
def pytest_configure(config: pytest.Config) -> None: ...
