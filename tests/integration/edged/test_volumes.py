"""What containers see of volumes, names and settings, on a real containerd."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.integration.edged.node import RealNode, eventually
from tests.unit.edged.kit import config_map, phase, secret

pytestmark = pytest.mark.containerd


async def output(node: RealNode, script: str, *, name: str = "a", **spec: Any) -> str:
    """Run a script in a pod of its own, and return what it said."""
    fields = spec.pop("container", {})
    main = node.container(script=script, **fields)
    node.put("pods", node.pod(name, restartPolicy="Never", containers=[main], **spec))
    await node.shows(lambda: phase(node.ears.newest(name)) in {"Succeeded", "Failed"})
    return node.log(name)


def mounts(*paths: str, **more: Any) -> dict[str, Any]:
    return {
        "volumeMounts": [{"name": path.strip("/"), "mountPath": path, **more} for path in paths]
    }


async def test_config_maps_secrets_and_fields_are_files(node: RealNode) -> None:
    node.put("configmaps", config_map("settings", {"key": "from config"}))
    node.put("secrets", secret("password", {"key": "from secret"}))
    said = await output(
        node,
        "cat /c/key; echo; cat /s/key; echo; cat /d/name; echo; "
        "(echo x > /c/key) 2>/dev/null || echo read-only; echo $KEY",
        container={
            **mounts("/c", "/s", "/d"),
            "env": [{"name": "KEY", "value": "$(ONE)-two"}],
            "envFrom": [],
        }
        | {"env": [{"name": "ONE", "value": "one"}, {"name": "KEY", "value": "$(ONE)-two"}]},
        volumes=[
            {"name": "c", "configMap": {"name": "settings"}},
            {"name": "s", "secret": {"secretName": "password"}},
            {
                "name": "d",
                "downwardAPI": {
                    "items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]
                },
            },
        ],
    )
    assert said.splitlines() == ["from config", "from secret", "a", "read-only", "one-two"]


async def test_changed_config_map_reaches_a_running_container(node: RealNode) -> None:
    node.put("configmaps", config_map("settings", {"key": "old"}))
    main = node.container(
        script="while :; do cat /c/key; echo; /bin/busybox sleep 0.1; done", **mounts("/c")
    )
    volumes = [{"name": "c", "configMap": {"name": "settings"}}]
    node.put("pods", node.pod(containers=[main], volumes=volumes))
    await node.runs()
    await eventually(lambda: "old" in node.log())
    node.put("configmaps", config_map("settings", {"key": "new"}))
    await eventually(lambda: node.log().endswith("new"))
    [container] = await node.containers()
    assert container.attempt == 0


async def test_group_of_the_pod_owns_its_volumes(node: RealNode) -> None:
    said = await output(
        node,
        "/bin/busybox id; echo x > /e/file && /bin/busybox stat -c '%u %g' /e/file; cat /s/key",
        container=mounts("/e", "/s"),
        securityContext={
            "runAsUser": 1001,
            "runAsGroup": 1002,
            "fsGroup": 2000,
            "supplementalGroups": [3000],
        },
        volumes=[
            {"name": "e", "emptyDir": {}},
            {
                "name": "s",
                "projected": {"sources": [{"configMap": {"name": "settings", "optional": True}}]},
            },
        ],
    )
    lines = said.splitlines()
    assert lines[0].startswith("uid=1001 gid=1002 groups=")
    assert {"2000", "3000"} <= set(lines[0].partition("groups=")[2].split(","))
    assert lines[1] == "1001 2000"


async def test_sub_path_names_the_pod(node: RealNode) -> None:
    # parts of what containers write are mounted by edged, which is not in containerd's namespace
    # here: see the tests of the whole system
    node.put("configmaps", config_map("settings", {"of-a": "mine", "of-b": "another's"}))
    said = await output(
        node,
        "cat /v",
        container={
            "env": [{"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
            **mounts("/v", subPathExpr="of-$(POD)"),
        },
        volumes=[{"name": "v", "configMap": {"name": "settings"}}],
    )
    assert said == "mine"


async def test_names_are_the_pods(node: RealNode) -> None:
    said = await output(
        node,
        "/bin/busybox hostname; cat /etc/hosts; cat /etc/resolv.conf",
        hostname="h",
        subdomain="sub",
        hostAliases=[{"ip": "192.0.2.9", "hostnames": ["one.example"]}],
        dnsPolicy="None",
        dnsConfig={
            "nameservers": ["192.0.2.53"],
            "searches": ["site.example"],
            "options": [{"name": "ndots", "value": "2"}],
        },
    )
    lines = said.splitlines()
    assert lines[0] == "h"
    [ip] = [each["ip"] for each in node.ears.newest().get("podIPs", [])] or [""]
    own = [line for line in lines if "h.sub.default.svc.cluster.local\th" in line]
    assert len(own) == 1
    assert not ip or own[0].startswith(ip)
    assert "192.0.2.9\tone.example" in lines
    assert {"nameserver 192.0.2.53", "search site.example", "options ndots:2"} <= set(lines)


async def test_pod_on_the_nodes_network_has_the_nodes_names(node: RealNode) -> None:
    said = await output(
        node,
        "cat /etc/hosts",
        hostNetwork=True,
        hostAliases=[{"ip": "192.0.2.9", "hostnames": ["one.example"]}],
    )
    nodes = await asyncio.to_thread(Path("/etc/hosts").read_text)
    assert said.splitlines() == [*nodes.splitlines(), "192.0.2.9\tone.example"]


async def test_hidden_folder_is_not_written_by_a_read_only_mount(node: RealNode) -> None:
    said = await output(
        node,
        "(echo x > /e/file) 2>/dev/null || echo refused; "
        "(echo x > /file) 2>/dev/null || echo root refused",
        container={
            **mounts("/e", readOnly=True),
            "securityContext": {"readOnlyRootFilesystem": True},
        },
        volumes=[{"name": "e", "emptyDir": {}}],
    )
    assert said.splitlines() == ["refused", "root refused"]
