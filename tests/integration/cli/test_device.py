"""``fedge device`` against a real API server."""

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from fedge_cli.api import Api
from fedge_cli.device_cloud import set_desired
from fedge_cli.device_wishes import Wish
from tests.integration.cli.conftest import Fedge

REPOSITORY = Path(__file__).parents[3]
EXAMPLE = REPOSITORY / "examples" / "air-conditioner"
CRDS = REPOSITORY / "deploy" / "k8s" / "base" / "crds"
MERGE = {"content-type": "application/merge-patch+json"}


def path(namespace: str, plural: str) -> str:
    return f"/apis/devices.kubeedge.io/v1beta1/namespaces/{namespace}/{plural}"


def made(api: httpx.Client, namespace: str, count: int = 0) -> None:
    """Make a device of ``count`` properties, and its model."""
    names = [f"p{at}" for at in range(count)] or ["temperature"]
    limits = {"type": "INT", "accessMode": "ReadWrite", "minimum": "0", "maximum": "99"}
    objects: dict[str, dict[str, Any]] = {
        "devicemodels": {
            "kind": "DeviceModel",
            "metadata": {"name": "m"},
            "spec": {"properties": [{"name": each, **limits} for each in names]},
        },
        "devices": {
            "kind": "Device",
            "metadata": {"name": "ac"},
            "spec": {"deviceModelRef": {"name": "m"}, "properties": [{"name": names[0]}]},
        },
        "devicestatuses": {
            "kind": "DeviceStatus",
            "metadata": {"name": "ac"},
        },
    }
    for plural, obj in objects.items():
        body = {"apiVersion": "devices.kubeedge.io/v1beta1", **obj}
        assert api.post(path(namespace, plural), json=body).status_code == 201


def reported(api: httpx.Client, namespace: str, value: str) -> None:
    twins = [{"propertyName": "temperature", "reported": {"value": value}}]
    answer = api.patch(
        f"{path(namespace, 'devicestatuses')}/ac/status",
        content=json.dumps({"status": {"state": "online", "twins": twins}}),
        headers=MERGE,
    )
    assert answer.status_code == 200, answer.text


@pytest.fixture(autouse=True)
def kinds(fedge: Fedge) -> None:
    assert fedge("apply", "-f", str(CRDS)).exit_code == 0


def test_device_is_set_and_described(fedge: Fedge, api: httpx.Client, namespace: str) -> None:
    made(api, namespace)
    done = fedge("device", "set", "ac", "temperature=24")
    assert (done.exit_code, done.stdout) == (0, f"device {namespace}/ac set\n")
    again = fedge("device", "set", "ac", "temperature=24")
    assert again.stdout == f"device {namespace}/ac unchanged\n"
    late = fedge("device", "set", "ac", "temperature=24", "--wait", "1s")
    assert late.exit_code == 1
    assert "names no node" in late.stderr
    reported(api, namespace, "24")
    assert fedge("device", "set", "ac", "temperature=24", "--wait", "5s").exit_code == 0
    shown = fedge("device", "describe", "ac").stdout
    assert "Synced" in shown
    assert "0..99" in shown
    assert fedge("device", "set", "ac", "temperature-").exit_code == 0
    spec = api.get(f"{path(namespace, 'devices')}/ac").json()["spec"]
    assert spec["properties"] == [{"name": "temperature"}]


def test_what_cannot_be_is_told(fedge: Fedge, api: httpx.Client, namespace: str) -> None:
    made(api, namespace)
    for arguments, code, said in (
        (("set", "ac", "temperature=100"), 1, "above the maximum of 99; say a value of 0..99"),
        (("set", "ac", "x=1"), 1, "it has temperature"),
        (("set", "none", "x=1"), 3, '"none" not found'),
        (("set", "ac"), 2, "Missing argument"),
        (("describe", "none"), 3, '"none" not found'),
        (("history", "ac"), 1, "names no node"),
        (("watch", "none"), 3, '"none" not found'),
        (("watch", "-o", "yaml"), 2, "use json"),
        (("watch", "ac", "-A"), 2, "leave out -A"),
    ):
        result = fedge("device", *arguments)
        assert (result.exit_code, said in result.stderr) == (code, True), result.stderr


def test_many_who_set_at_once_lose_nothing(fedge: Fedge, api: httpx.Client, namespace: str) -> None:
    made(api, namespace, 8)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda at: _set(namespace, api, at), range(8)))
    assert all(results)
    assert fedge("device", "describe", "ac").exit_code == 0
    spec = api.get(f"{path(namespace, 'devices')}/ac").json()["spec"]
    found = {each["name"]: each["desired"]["value"] for each in spec["properties"]}
    assert found == {f"p{at}": str(at) for at in range(8)}


def _set(namespace: str, api: httpx.Client, at: int) -> bool:
    return set_desired(
        Api(api, server=str(api.base_url)), namespace, "ac", [Wish(f"p{at}", str(at))]
    )


def test_watch_ends_at_control_c_and_says_nothing_else(
    api: httpx.Client, namespace: str, kubeconfig: Path
) -> None:
    made(api, namespace)
    command = [sys.executable, "-m", "fedge_cli", "device", "watch", "-o", "json"]
    variables = {"FEDGE_KUBECONFIG": str(kubeconfig), "FEDGE_NAMESPACE": namespace}
    with subprocess.Popen(
        command,
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as watching:
        assert watching.stdout is not None
        first = json.loads(watching.stdout.readline())
        assert (first["device"], first["property"]) == ("ac", "")
        reported(api, namespace, "20")
        second = json.loads(watching.stdout.readline())
        assert (second["property"], second["reported"]) == ("temperature", "20")
        watching.send_signal(signal.SIGINT)
        out, err = watching.communicate(timeout=15)
    assert (watching.returncode, out, err) == (130, "", "")


def test_example_is_what_the_api_takes(fedge: Fedge) -> None:
    result = fedge("apply", "-f", str(EXAMPLE), "-n", "default", "--dry-run=server")
    assert result.exit_code == 0, result.output
