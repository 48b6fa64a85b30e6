"""The image for arm64, run under emulation: what is compiled in it works there too.

It takes minutes and fetches an emulator, so it runs with ``FEDGE_TEST_ARM64=1`` only
(``make test-arm64``). Speed and memory are not those of a gateway.
"""

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fedge_enrolment import certificates
from fedge_enrolment.identity import FOLDER, Identity, Joined
from fedge_objects import NodeName
from images.__main__ import unpack
from images.cached import edge_image
from tests.image import emulation
from tests.image.emulation import Emulated

pytestmark = [
    pytest.mark.stack,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        os.environ.get("FEDGE_TEST_ARM64") != "1",
        reason="takes minutes and an emulator: `make test-arm64`",
    ),
]
SECONDS = 120.0
NODE = NodeName("gw-arm64")
SITE = "/usr/local/lib/python3.13/dist-packages"
IMPORT_ALL = f"""
import importlib, pkgutil, platform, sys
from pathlib import Path
found = set()
for folder in ({SITE!r}, "/usr/lib/python3.13/lib-dynload"):
    for path in Path(folder).rglob("*.so"):
        parts = path.relative_to(folder).parts
        found.add(".".join((*parts[:-1], parts[-1].partition(".")[0])))
for name in ("fedge_boot", "fedge_meta", "fedge_edged", "fedge_twin"):
    package = importlib.import_module(name)
    found |= {{each.name for each in pkgutil.walk_packages(package.__path__, name + ".")}}
for name in sorted(each for each in found if not each.endswith("__main__")):
    importlib.import_module(name)
    print(name)
print(platform.machine())
"""
USE = """
import asyncio, aiosqlite, grpc, msgspec, pydantic, zstandard
from cryptography.exceptions import InvalidSignature
from fedge_enrolment import certificates
key = certificates.new_key()
signature = certificates.sign(key, b"said")
assert certificates.is_signed_by(certificates.public_of(key), b"said", signature)
assert not certificates.is_signed_by(certificates.public_of(key), b"else", signature)
text = b"fedge" * 1000
packed = zstandard.compress(text)
assert len(packed) < 100 and zstandard.decompress(packed) == text
assert msgspec.json.decode(msgspec.json.encode({"a": [1.5, None]})) == {"a": [1.5, None]}
class Model(pydantic.BaseModel):
    port: int
assert Model.model_validate({"port": "5672"}).port == 5672
try:
    Model.model_validate({"port": "none"})
except pydantic.ValidationError:
    pass
else:
    raise AssertionError("pydantic takes any word for a number")
async def main():
    async with aiosqlite.connect("/tmp/rows.db") as rows:
        await rows.execute("create table t (x)")
        await rows.execute("insert into t values (7)")
        async with rows.execute("select x from t") as cursor:
            assert await cursor.fetchall() == [(7,)]
    async def shout(request, context):
        return request.upper()
    server = grpc.aio.server()
    handlers = {"Shout": grpc.unary_unary_rpc_method_handler(shout)}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test", handlers)])
    server.add_insecure_port("unix:/tmp/grpc.sock")
    await server.start()
    async with grpc.aio.insecure_channel("unix:/tmp/grpc.sock") as channel:
        assert await channel.unary_unary("/test/Shout")(b"hello", timeout=30) == b"HELLO"
    await server.stop(None)
asyncio.run(main())
print("all work")
"""
ASK_BROKER = """
import asyncio
from pathlib import Path
from fedge_local.processes import Machine
from fedge_local.rabbitmq import RabbitMQ
broker = RabbitMQ(
    name="rabbitmq", folder=Path("/var/lib/fedge/rabbitmq"), place=Machine(), definitions={},
    listen=[("127.0.0.1", 5672)], dist_port=25672,
)
async def main():
    if await broker.answers():
        print(await broker.evaluate(
            "{erlang:system_info(system_architecture), erlang:system_info(emu_flavor),"
            " rabbit:is_running(), length(rabbit_amqqueue:list()) > 0}"
        ))
asyncio.run(main())
"""


@pytest.fixture(scope="module")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> Emulated:
    try:
        emulation.check()
    except emulation.UnavailableError as exc:
        pytest.skip(str(exc))
    root = tmp_path_factory.mktemp("arm64") / "root"
    unpack(edge_image("arm64").archive, root)
    # an engine gives it; without, Erlang finds no node on this machine
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n")
    return Emulated(root, emulation.qemu())


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """The volume of a gateway that has joined a cloud which it cannot reach."""
    folder = tmp_path / "volume"
    identity = Identity(folder / FOLDER)
    identity.folder.mkdir(parents=True)
    now = datetime.now(UTC)
    authority = certificates.new_authority(now, lifetime=timedelta(days=2))
    key = certificates.new_key()
    identity.key.write_bytes(key)
    user = f"urn:fedge:node:{NODE}:0"
    certificate = certificates.issue_client(
        authority, certificates.public_of(key), name=NODE, user=user, now=now,
        lifetime=timedelta(days=1),
    )  # fmt: skip
    tomorrow = int(now.timestamp()) + 86_400
    joined = Joined(
        node=NODE, user=user, cloud="127.0.0.1:9", broker="127.0.0.1:9",
        renew_after=tomorrow, expires=tomorrow,
    )  # fmt: skip
    identity.keep(
        joined, certificate=certificate.decode(), authorities=authority.certificate.decode()
    )
    return folder


def until(condition: Callable[[], bool], log: Path) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, log.read_text()[-4000:]
        time.sleep(0.2)


def test_every_compiled_module_and_every_service_is_loaded(emulated: Emulated) -> None:
    ended = emulated.run("/usr/bin/python3", "-c", IMPORT_ALL)
    assert ended.code == 0, ended.text
    *names, machine = ended.text.split()
    assert machine == "aarch64"
    compiled = {"cryptography.hazmat.bindings._rust", "grpc._cython.cygrpc", "msgspec._core"}
    compiled |= {"pydantic_core._pydantic_core", "zstandard.backend_c", "_ssl", "_sqlite3"}
    assert compiled | {"fedge_edged.plugin", "fedge_meta.plugin"} <= set(names)


def test_what_is_compiled_computes(emulated: Emulated) -> None:
    ended = emulated.run("/usr/bin/python3", "-c", f"__debug__ or exit(3)\n{USE}")
    assert ended.code == 3, ended.text  # the image's Python leaves assertions out
    ended = emulated.run("/usr/bin/env", "PYTHONOPTIMIZE=", "/usr/bin/python3", "-c", USE)
    assert (ended.code, ended.text.split("\n")[-2:]) == (0, ["all work", ""]), ended.text


def test_erlang_compiles_for_the_processor(emulated: Emulated) -> None:
    expression = (
        'io:format("~p ~s ~p", [lists:sum(lists:seq(1, 1000)),'
        " erlang:system_info(system_architecture), erlang:system_info(emu_flavor)]), halt()."
    )
    ended = emulated.run(
        "/usr/lib/erlang/bin/erl", "-noinput", "-start_epmd", "false", "-eval", expression
    )
    assert ended.text == "500500 aarch64-unknown-linux-gnu jit"


def test_edge_that_was_not_begun_says_so(emulated: Emulated) -> None:
    ended = emulated.run("/usr/bin/fedge-health")
    assert ended.code == 1
    assert ended.text.startswith("not started yet: ")


def test_edge_boots_with_its_broker_and_ends_in_order(
    emulated: Emulated, volume: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with emulated.running(volume, log) as pid:
        until(lambda: f"starting {NODE}: broker and services" in log.read_text(), log)

        def broker() -> str:
            return emulated.inside(pid, "/usr/bin/python3", "-c", ASK_BROKER).text.strip()

        until(lambda: broker() == '{"aarch64-unknown-linux-gnu",jit,true,true}', log)
        # no runtime lends it a socket here: that, and nothing before it, is what is missing
        health = emulated.inside(pid, "/usr/bin/fedge-health")
        assert health.text.startswith("the container runtime does not answer at"), health.text
        until(lambda: "true" in services(emulated, pid), log)
        emulated.end(pid)
        until(lambda: '"event": "stopped"' in log.read_text(), log)


def services(emulated: Emulated, pid: int) -> str:
    """Return whether the services are ready, as s6 says it."""
    scan = "/run/fedge-s6/scan/services"
    return emulated.inside(pid, "/usr/bin/s6-svstat", "-o", "ready", scan).text
