"""What the container writes and starts, without starting it."""

import json
from pathlib import Path

import pytest

from fedge_boot.programs import FORWARD, READY_FD, Program, prepare
from fedge_boot.settings import Settings
from fedge_boot.supervision import write
from fedge_enrolment.identity import Joined
from fedge_fabric.definitions import ANONYMOUS
from fedge_objects import NodeName
from fedge_service import find_services
from tests.unit.deploy.test_deploy import known_variables

JOINED = Joined(
    node=NodeName("gw-1.plant.example"),
    user="urn:fedge:node:gw-1.plant.example:0",
    cloud="cloud.example:443",
    broker="cloud.example:443",
    renew_after=0,
    expires=0,
)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


async def prepared(folder: Path, **environment: str) -> tuple[Program, Program]:
    environment = {"FEDGE_EDGE_DATA_DIR": str(folder), **environment}
    return await prepare(Settings.of(environment), environment, JOINED)


async def test_services_are_told_what_they_read_and_no_token(tmp_path: Path) -> None:
    _, services = await prepared(
        tmp_path, FEDGE_JOIN_TOKEN="secret", FEDGE_EDGED_OFFLINE_TOKENS="false"
    )
    assert set(services.command[3:]) <= find_services().keys()
    given = {name for name in services.environment if name.startswith("FEDGE_")}
    assert given <= known_variables() | {"FEDGE_SERVICE_READY_FD"}
    assert services.environment["FEDGE_META_CLOUD_ADDRESS"] == "cloud.example:443"
    assert services.environment["FEDGE_EDGED_OFFLINE_TOKENS"] == "false"
    assert services.environment["FEDGE_META_FORWARD_TO"] == ""
    assert "secret" not in services.environment.values()
    again = (await prepared(tmp_path, FEDGE_EDGED_OFFLINE_TOKENS="false"))[1]
    assert again.environment == services.environment


async def test_nobody_else_reads_what_the_broker_reads(tmp_path: Path) -> None:
    broker, _ = await prepared(tmp_path)
    folder = tmp_path / "rabbitmq"
    for name in ("definitions.json", "rabbitmq.config", ".erlang.cookie"):
        assert (folder / name).stat().st_mode & 0o077 == 0, name
    definitions = json.loads((folder / "definitions.json").read_text())
    assert {user["name"] for user in definitions["users"]} == {"fedge"}
    assert broker.environment["RABBITMQ_MNESIA_BASE"].startswith(str(tmp_path))


@pytest.mark.parametrize("is_let_in", [False, True])
async def test_devices_without_a_password_are_let_in_only_if_told(
    tmp_path: Path, is_let_in: bool
) -> None:
    await prepared(tmp_path, **({"FEDGE_MQTT_ANONYMOUS": "true"} if is_let_in else {}))
    users = json.loads((tmp_path / "rabbitmq/definitions.json").read_text())["users"]
    assert (ANONYMOUS in {user["name"] for user in users}) is is_let_in
    config = (tmp_path / "rabbitmq/rabbitmq.config").read_text()
    assert f"{{allow_anonymous,{str(is_let_in).lower()}}}" in config


async def test_links_behind_a_proxy_are_passed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    _, services = await prepared(tmp_path)
    assert services.environment["FEDGE_META_FORWARD_TO"] == JOINED.broker
    assert services.environment["FEDGE_META_CLOUD_ADDRESS"] == FORWARD
    definitions = (tmp_path / "rabbitmq/definitions.json").read_text()
    assert f"amqps://{FORWARD}" in definitions
    assert "cloud.example" not in definitions


async def test_supervisor_finds_a_folder_for_each_program(tmp_path: Path) -> None:
    settings = Settings.of({"FEDGE_EDGE_DATA_DIR": str(tmp_path)})
    programs = await prepare(settings, {}, JOINED)
    said = {"slot": "", "version": "0.1.0"}
    scan = write(programs, settings, said, {"A": "it's"}, folder=tmp_path / "s6")
    for program in programs:
        run = scan / program.name / "run"
        assert run.stat().st_mode & 0o777 == 0o700
        assert run.read_text().splitlines()[-1].startswith(f"exec {program.command[0]}")
    assert (scan / "services/notification-fd").read_text() == f"{READY_FD}\n"
    assert not (scan / "broker/notification-fd").exists()
