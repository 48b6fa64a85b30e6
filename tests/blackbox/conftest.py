"""Which system is tested: one that is named by options, or the repository's own.

To test another one, with nothing of ours installed (``--confcutdir`` leaves out the fixtures of the
other tests; pytest, pytest-asyncio, pytest-timeout, aiohttp, aiomqtt and pyyaml are needed)::

    pytest tests/blackbox --confcutdir tests/blackbox --kubeconfig FILE
        --mqtt [USER:PASSWORD@]HOST:PORT --node NAME [-m "not extension"]
"""

import importlib
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.blackbox.system import Api, Mqtt, Target


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take the addresses."""
    group = parser.getgroup("blackbox", "the system that tests/blackbox tests")
    group.addoption("--kubeconfig", help="of its Kubernetes API")
    group.addoption("--mqtt", help="its node's broker, as [USER:PASSWORD@]HOST:PORT")
    group.addoption("--node", help="its node's name")


@pytest.fixture(scope="session")
def target(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Target]:
    """The system that is tested."""
    kubeconfig, mqtt, node = (
        request.config.getoption(name, default=None) for name in ("kubeconfig", "mqtt", "node")
    )
    if not any((kubeconfig, mqtt, node)):
        own = importlib.import_module("tests.blackbox.own")  # knows our own packages
        with own.running(tmp_path_factory.mktemp("stack")) as ours:
            yield ours
        return
    if not all((kubeconfig, mqtt, node)):
        pytest.exit("--kubeconfig, --mqtt and --node go together", returncode=4)
    address = urlsplit(f"mqtt://{mqtt}")
    yield Target(
        kubeconfig=Path(str(kubeconfig)),
        mqtt_host=address.hostname or "127.0.0.1",
        mqtt_port=address.port or 1883,
        mqtt_user=_unquoted(address.username),
        mqtt_password=_unquoted(address.password),
        node=str(node),
    )


@pytest.fixture
async def api(target: Target) -> AsyncIterator[Api]:
    """Its Kubernetes API."""
    async with Api.connected(target.kubeconfig) as api:
        yield api


@pytest.fixture
async def mqtt(target: Target) -> AsyncIterator[Mqtt]:
    """A client at its node's broker."""
    async with Mqtt.connected(target) as mqtt:
        yield mqtt


@pytest.fixture
def name() -> str:
    """A name that nothing has yet."""
    return f"d-{uuid.uuid4().hex[:10]}"


def _unquoted(part: str | None) -> str | None:
    return None if part is None else unquote(part)
