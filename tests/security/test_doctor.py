"""The doctor: one line per check, and for whatever is wrong the cause and the remedy."""

import asyncio
import json
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from fedge_enrolment.checks import Check, Level, Machine, of_gateway
from fedge_enrolment.identity import Identity
from fedge_local.commands import run
from fedge_local.errors import CommandFailedError
from tests.security.conftest import VICTIM, Node, System, until

pytestmark = [
    pytest.mark.stack,
    pytest.mark.broker,
    pytest.mark.redis,
    pytest.mark.containerd,
    pytest.mark.timeout(300),
]

CRDS = Path(__file__).parents[2] / "deploy/k8s/base/crds"
LEVELS = {"OK", "WARN", "FAIL"}


async def test_the_cloud_is_well_and_says_so_line_by_line(system: System) -> None:
    await system.fedge("apply", "-f", str(CRDS))
    lines = (await system.fedge("doctor", "--side=cloud")).splitlines()
    assert {line.split()[0] for line in lines} <= {"OK", "WARN"}
    names = {line[6:].partition(": ")[0] for line in lines if line.startswith("OK")}
    assert names >= {
        "API server", "definitions", "certificate of authority", "certificate of hub",
        "certificate of broker", "enrolment port", "broker port", "nodes",
    }  # fmt: skip
    checks = json.loads(await system.fedge("doctor", "--side=cloud", "-o", "json"))
    assert {each["level"] for each in checks} <= {"OK", "WARN"}
    assert all(each["remedy"] for each in checks if each["level"] != "OK")


async def test_a_cloud_that_is_away_is_a_failure(system: System, tmp_path: Path) -> None:
    text = system.stack.kubeconfig.read_text()
    port = str(system.stack.ports["apiserver"])
    config = tmp_path / "kubeconfig"
    config.write_text(text.replace(f":{port}", ":1"))
    config.chmod(0o600)
    command = [sys.executable, "-m", "fedge_cli", "doctor", "--side=cloud", "-o", "json"]
    with pytest.raises(CommandFailedError, match=r'(?s)failed \(1\).*"FAIL"'):
        await run([*command, f"--kubeconfig={config}"])


async def test_a_gateway_is_well_and_says_so(system: System) -> None:
    edge = system.stack.edge(VICTIM).parts
    told = await edge.host.run(
        sys.executable, "-m", "fedge_cli", "doctor", "--side=edge", "-o", "json",
        f"--identity={edge.identity.folder}",
    )  # fmt: skip
    levels = {each["check"]: each["level"] for each in json.loads(told)}
    assert Level.FAIL not in levels.values(), told
    assert levels.keys() >= {"disk", "container runtime", "cgroups", "identity", "certificate"}


@dataclass(frozen=True)
class Ill:
    """What is done to a gateway, and what the doctor must say of it."""

    do: Callable[[Path], object]
    check: str
    detail: str
    remedy: str
    level: Level = Level.FAIL


def change(**values: object) -> Callable[[Path], None]:
    def do(folder: Path) -> None:
        path = folder / "joined.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return do


ILLS = {
    "it has not joined": Ill(
        lambda folder: (folder / "joined.json").unlink(), "identity", "has not joined", "fedge join"
    ),
    "its identity is damaged": Ill(
        lambda folder: (folder / "joined.json").write_text("{"),
        "identity", "cannot be read", "join again"),
    "its key is gone": Ill(
        lambda folder: (folder / "key.pem").unlink(), "identity", "key.pem", "join again"),
    "others can read its key": Ill(
        lambda folder: (folder / "key.pem").chmod(0o644), "identity", "others", "chmod go= "),
    "its sealing key is gone": Ill(
        lambda folder: (folder / "sealing.key").unlink(), "identity", "opens Secrets", "put it back"
    ),
    "its certificate is over": Ill(
        change(expires=int(time.time()) - 60), "certificate", "ended", "reach the cloud"),
    "its certificate was not renewed in time": Ill(
        change(renew_after=int(time.time()) - 60),
        "certificate", "should be renewed", "reach the cloud", Level.WARN),
    "hub is not where it was": Ill(
        change(cloud="127.0.0.1:1"), "", "refuses connections", "address"),
    "hub has no such name": Ill(
        change(cloud="nowhere.invalid:443"), "", "nowhere.invalid", "name servers"),
    "the broker is not where it was": Ill(
        change(broker="127.0.0.1:1"), "", "refuses connections", "address"),
    "it trusts another cloud": Ill(
        lambda folder: (folder / "ca.pem").write_bytes((folder / "certificate.pem").read_bytes()),
        "", "not from the cloud this gateway belongs to", "dial the right cloud"),
}  # fmt: skip


def look(identity: Path, tmp_path: Path) -> list[Check]:
    socket = tmp_path / "nowhere.sock"
    return list(of_gateway(Identity(identity), Machine(data=tmp_path, runtime=socket)))


@pytest.mark.parametrize("name", ILLS)
async def test_whatever_is_wrong_with_a_gateway_is_told_with_its_remedy(
    name: str, mallory: Node, tmp_path: Path
) -> None:
    ill, folder = ILLS[name], tmp_path / "identity"
    shutil.copytree(mallory.identity.folder, folder)
    healthy = await asyncio.to_thread(look, folder, tmp_path)
    wrong = {each.name for each in healthy if each.level is not Level.OK}
    assert wrong == {"container runtime"}
    ill.do(folder)
    found = await asyncio.to_thread(look, folder, tmp_path)
    assert any(
        each.level is ill.level
        and ill.check in each.name
        and ill.detail in each.detail
        and ill.remedy in each.remedy
        and each.remedy
        for each in found
        if each.name != "container runtime"
    ), found


async def test_a_revoked_gateway_learns_that_it_was_revoked(system: System, tmp_path: Path) -> None:
    node = await system.join("soon-revoked")
    await system.fedge("node", "revoke", "soon-revoked")
    refused: list[Check] = []

    async def is_refused() -> bool:
        found = await asyncio.to_thread(look, node.identity.folder, tmp_path)
        refused[:] = [each for each in found if "does not let this gateway in" in each.detail]
        return bool(refused)

    await until(is_refused, "the broker shuts it out")
    assert refused[0].level is Level.FAIL
    assert "fedge node list" in refused[0].remedy
