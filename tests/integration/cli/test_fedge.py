import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import yaml

from fedge_cli.errors import AwayError, CommandError, MissingError
from tests.integration.cli.conftest import Fedge

DEVICE_KINDS = Path(__file__).parents[3] / "deploy" / "k8s" / "base" / "crds"
CONFIG_MAP = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s}\ndata: {x: %r}\n"


def pod(name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "main", "image": "hello:1"}], **spec},
    }


def test_apply_creates_then_leaves_then_changes(fedge: Fedge, tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_text(CONFIG_MAP % ("a", "1"))
    for said in ("created", "unchanged"):
        result = fedge("apply", "-f", str(path))
        assert (result.exit_code, result.stdout) == (0, f"configmap/a {said}\n")
    path.write_text(CONFIG_MAP % ("a", "2"))
    assert fedge("apply", "-f", str(path)).stdout == "configmap/a configured\n"
    assert json.loads(fedge("get", "cm/a", "-o", "json").stdout)["data"] == {"x": "2"}


def test_apply_removes_what_the_manifest_dropped_and_keeps_what_others_set(
    fedge: Fedge, api: httpx.Client, namespace: str
) -> None:
    fedge("apply", "-f", "-", stdin=CONFIG_MAP % ("a", "1") + "immutable: false\n")
    path = f"/api/v1/namespaces/{namespace}/configmaps/a"
    merge = {"content-type": "application/merge-patch+json"}
    api.patch(path, content=json.dumps({"data": {"others": "2"}}), headers=merge)
    manifest = CONFIG_MAP.replace("x:", "y:") % ("a", "1")
    assert fedge("apply", "-f", "-", stdin=manifest).stdout == "configmap/a configured\n"
    assert api.get(path).json()["data"] == {"y": "1", "others": "2"}


def test_dry_runs_change_nothing(fedge: Fedge, api: httpx.Client, namespace: str) -> None:
    for way, shown in (("server", "server dry run"), ("client", "dry run")):
        result = fedge("apply", "-f", "-", f"--dry-run={way}", stdin=CONFIG_MAP % ("a", "1"))
        assert result.stdout == f"configmap/a created ({shown})\n"
        assert api.get(f"/api/v1/namespaces/{namespace}/configmaps/a").status_code == 404
    fedge("apply", "-f", "-", stdin=CONFIG_MAP % ("a", "1"))
    same = fedge("apply", "-f", "-", "--dry-run=server", stdin=CONFIG_MAP % ("a", "1"))
    other = fedge("apply", "-f", "-", "--dry-run=server", stdin=CONFIG_MAP % ("a", "2"))
    assert same.stdout == "configmap/a unchanged (server dry run)\n"
    assert other.stdout == "configmap/a configured (server dry run)\n"


def test_wrong_documents_are_told_and_the_others_applied(fedge: Fedge) -> None:
    big = CONFIG_MAP % ("big", "x" * 5_000_000)
    documents = [
        CONFIG_MAP % ("first", "1"),
        "kind: [\n",
        "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {p: not-base64!}\n",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: odd}\ndatas: {}\n",
        big,
        CONFIG_MAP % ("last", "1"),
    ]
    result = fedge("apply", "-f", "-", stdin="---\n".join(documents))
    assert result.exit_code == CommandError.exit_code
    assert result.stdout.splitlines() == ["configmap/first created", "configmap/last created"]
    unreadable, secret, odd, too_big, trace = result.stderr.splitlines()
    assert trace.startswith("trace ")  # there is no hub that could get its beginning
    assert unreadable.startswith("error: standard input, document 2: line 7, column 1: not YAML")
    assert secret.startswith("error: standard input, document 3 (line 8): Error from server")
    assert "illegal base64 data" in secret
    assert 'unknown field "datas"' in odd
    assert too_big.startswith("error: standard input, document 5 (line 18): Error from server")
    assert "x" * 1000 not in result.stderr
    assert len(too_big) < 500


def test_get_prints_what_kubectl_prints(fedge: Fedge, kubeconfig: Path, namespace: str) -> None:
    fedge("apply", "-f", "-", stdin=json.dumps(pod("hello")))
    ours = fedge("get", "pods", "-o", "wide").stdout
    theirs = subprocess.run(
        ["kubectl", "--kubeconfig", str(kubeconfig), "-n", namespace, "get", "pods", "-o", "wide"],
        capture_output=True, text=True, check=True, timeout=30,
    ).stdout  # fmt: skip

    def cells(text: str) -> list[list[str]]:
        return [[c for i, c in enumerate(line.split()) if i != 4] for line in text.splitlines()]

    assert cells(ours) == cells(theirs)


def test_get_knows_short_names_groups_and_several_kinds(fedge: Fedge) -> None:
    fedge("apply", "-f", "-", stdin=CONFIG_MAP % ("a", "1"))
    fedge("apply", "-f", "-", stdin=json.dumps(pod("hello")))
    text = fedge("get", "cm,po").stdout
    assert "configmap/a" in text
    assert "pod/hello" in text
    assert fedge("get", "po", "-o", "name").stdout == "pod/hello\n"
    names = fedge("get", "cm/a", "po/hello", "-o", "name").stdout
    assert names == "configmap/a\npod/hello\n"
    assert fedge("get", "leases.coordination.k8s.io").exit_code == 0
    listed = yaml.safe_load(fedge("get", "po", "-o", "yaml").stdout)
    assert [(each["kind"], each["apiVersion"]) for each in listed["items"]] == [("Pod", "v1")]


def test_selectors_choose(fedge: Fedge) -> None:
    for name in ("a", "b"):
        manifest = {**pod(name), "metadata": {"name": name, "labels": {"app": name}}}
        fedge("apply", "-f", "-", stdin=json.dumps(manifest))
    assert fedge("get", "po", "-l", "app=a", "-o", "name").stdout == "pod/a\n"
    by_field = fedge("get", "po", "--field-selector", "metadata.name!=a", "-o", "name")
    assert by_field.stdout == "pod/b\n"
    assert fedge("get", "po", "-l", "a in (", "-o", "name").exit_code == CommandError.exit_code


def test_what_is_not_there_ends_with_3(fedge: Fedge, namespace: str) -> None:
    nothing = fedge("get", "pods")
    assert (nothing.exit_code, nothing.stdout) == (0, "")
    assert nothing.stderr == f"No resources found in {namespace} namespace.\n"
    missing = fedge("get", "pod", "x")
    assert missing.exit_code == MissingError.exit_code
    assert missing.stderr == 'Error from server (NotFound): pods "x" not found\n'
    assert fedge("get", "things").exit_code == MissingError.exit_code
    assert fedge("describe", "pod", "x").exit_code == MissingError.exit_code
    assert fedge("logs", "x").exit_code == MissingError.exit_code
    assert fedge("delete", "pod", "x").exit_code == MissingError.exit_code


@pytest.fixture
def far_node(api: httpx.Client) -> str:
    """A node that was heard ten minutes ago."""
    name = f"far-{uuid4().hex[:8]}"
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}
    assert api.post("/api/v1/nodes", json=node).status_code == 201
    ready = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    merge = {"content-type": "application/merge-patch+json"}
    api.patch(f"/api/v1/nodes/{name}/status", content=json.dumps(ready), headers=merge)
    heard = (datetime.now(UTC) - timedelta(minutes=10)).isoformat().replace("+00:00", "Z")
    lease = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": name},
        "spec": {"renewTime": heard, "leaseDurationSeconds": 40, "holderIdentity": name},
    }
    path = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
    assert api.post(path, json=lease).status_code == 201
    return name


def test_status_of_a_node_that_is_away_is_told_with_its_age(
    fedge: Fedge, api: httpx.Client, namespace: str, far_node: str
) -> None:
    fedge("apply", "-f", "-", stdin=json.dumps(pod("there", nodeName=far_node)))
    running = {"status": {"phase": "Running"}}
    path = f"/api/v1/namespaces/{namespace}/pods/there"
    merge = {"content-type": "application/merge-patch+json"}
    assert api.patch(f"{path}/status", content=json.dumps(running), headers=merge).is_success
    assert "Running (stale 10m)" in fedge("get", "pods").stdout
    assert "Ready (stale 10m)" in fedge("get", "node", far_node).stdout
    assert "Running (stale 10m: its node is not heard)" in fedge("describe", "po/there").stdout
    described = fedge("describe", "node", far_node).stdout
    assert "(stale 10m: it is not heard)" in described
    assert f"{namespace}/there" in described


def test_devices_of_a_node_that_is_away_are_told_with_its_age(fedge: Fedge, far_node: str) -> None:
    assert fedge("apply", "-f", str(DEVICE_KINDS)).exit_code == 0
    group = {"apiVersion": "devices.kubeedge.io/v1beta1", "metadata": {"name": "thermometer"}}
    model = {"deviceModelRef": {"name": "m"}, "protocol": {"protocolName": "none"}}
    device = {**group, "kind": "Device", "spec": {"nodeName": far_node, **model}}
    status = {**group, "kind": "DeviceStatus"}
    applied = fedge("apply", "-f", "-", stdin=f"{json.dumps(device)}\n{json.dumps(status)}")
    assert applied.exit_code == 0, applied.stderr
    assert f"{far_node} (stale 10m)" in fedge("get", "devices").stdout
    assert "<none> (stale 10m)" in fedge("get", "devicestatuses").stdout
    for kind in ("device", "devicestatus"):
        described = fedge("describe", kind, "thermometer").stdout
        assert f"Node: {far_node} (stale 10m: it is not heard)" in described


def test_status_without_a_hub_says_what_to_do(fedge: Fedge, far_node: str) -> None:
    for arguments in ((), (far_node,)):
        result = fedge("status", *arguments)
        assert result.exit_code == AwayError.exit_code
        assert result.stderr.count("set FEDGE_APISERVER_HUB_URL") == 1
    assert f"{far_node}   unknown   -" in fedge("status").stdout
    assert fedge("status", "nobody").exit_code == MissingError.exit_code


def test_deletion_of_a_pod_waits_for_its_node_and_says_that_it_is_away(
    fedge: Fedge, far_node: str
) -> None:
    fedge("apply", "-f", "-", stdin=json.dumps(pod("there", nodeName=far_node)))
    result = fedge("delete", "pod", "there", "--timeout", "1s")
    assert result.exit_code == AwayError.exit_code
    assert result.stdout == 'pod "there" deleted\n'
    assert f"node '{far_node}' has not been heard of for 10m" in result.stderr
    forced = fedge("delete", "pod", "there", "--force")
    assert (forced.exit_code, forced.stdout) == (0, 'pod "there" force deleted\n')
    assert fedge("get", "pod", "there").exit_code == MissingError.exit_code


def test_delete_takes_files_and_several_names(fedge: Fedge, tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_text("---\n".join(CONFIG_MAP % (name, "1") for name in ("a", "b", "c")))
    fedge("apply", "-f", str(path))
    two = fedge("delete", "cm", "a", "b")
    assert two.stdout == 'configmap "a" deleted\nconfigmap "b" deleted\n'
    rest = fedge("delete", "-f", str(path))
    assert rest.stdout == 'configmap "c" deleted\n'
    assert rest.stderr.count("not found") == 2
    assert rest.exit_code == MissingError.exit_code


def test_describe_shows_events_and_hides_secrets(
    fedge: Fedge, api: httpx.Client, namespace: str
) -> None:
    secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {p: hidden-word}\n"
    fedge("apply", "-f", "-", stdin=secret)
    shown = fedge("describe", "secret", "s").stdout
    assert "p: 11 bytes" in shown
    assert "hidden" not in shown
    fedge("apply", "-f", "-", stdin=json.dumps(pod("hello", nodeName="n")))
    uid = json.loads(fedge("get", "po/hello", "-o", "json").stdout)["metadata"]["uid"]
    event = {
        "metadata": {"name": "e"},
        "involvedObject": {"kind": "Pod", "name": "hello", "namespace": namespace, "uid": uid},
        "type": "Warning",
        "reason": "FailedMount",
        "message": "config map is missing",
        "lastTimestamp": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    api.post(f"/api/v1/namespaces/{namespace}/events", json=event).raise_for_status()
    assert "FailedMount         config map is missing" in fedge("describe", "po", "hello").stdout
    assert "Lease" not in fedge("describe", "pods").stderr


def test_version_tells_both(fedge: Fedge) -> None:
    versions = json.loads(fedge("version", "-o", "json").stdout)
    assert versions["fedge"]
    assert versions["server"].startswith("v1.")


def test_watch_prints_what_there_is_then_changes_until_interrupted(
    fedge: Fedge, kubeconfig: Path, namespace: str
) -> None:
    fedge("apply", "-f", "-", stdin=CONFIG_MAP % ("a", "1"))
    command = [sys.executable, "-m", "fedge_cli", "get", "cm", "-w", "-n", namespace]
    environment = {**os.environ, "FEDGE_KUBECONFIG": str(kubeconfig)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            assert process.stdout.readline().split() == ["NAME", "DATA", "AGE"]
            assert process.stdout.readline().startswith("a ")
            fedge("apply", "-f", "-", stdin=CONFIG_MAP % ("b", "1"))
            assert process.stdout.readline().startswith("b ")
            process.send_signal(signal.SIGINT)
            assert process.wait(10) == 130
            assert process.stderr.read() == ""
        finally:
            process.kill()


def test_custom_resources_are_known_as_soon_as_they_are_defined(fedge: Fedge) -> None:
    group = f"g{uuid4().hex[:8]}.example.com"
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"gadgets.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": "gadgets", "singular": "gadget", "kind": "Gadget"},
            "versions": [
                {
                    "name": "v1", "served": True, "storage": True,
                    "schema": {"openAPIV3Schema": {
                        "type": "object", "x-kubernetes-preserve-unknown-fields": True,
                    }},
                }
            ],
        },
    }  # fmt: skip
    gadget = {"apiVersion": f"{group}/v1", "kind": "Gadget", "metadata": {"name": "g"}}
    both = f"{json.dumps(definition)}\n{json.dumps(gadget)}"
    result = fedge("apply", "-f", "-", stdin=both)
    assert result.stdout.splitlines()[1] == f"gadget.{group}/g created", result.stderr
    assert fedge("get", f"gadgets.{group}", "-o", "name").stdout == f"gadget.{group}/g\n"
    fedge("delete", "crd", f"gadgets.{group}")


def test_server_that_is_gone_ends_with_4(tmp_path: Path, kubeconfig: Path, fedge: Fedge) -> None:
    config = yaml.safe_load(kubeconfig.read_text())
    config["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    result = fedge("get", "pods", "--kubeconfig", str(path))
    assert result.exit_code == AwayError.exit_code
    assert "https://127.0.0.1:1 does not answer" in result.stderr
