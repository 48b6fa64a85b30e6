"""What the runtime is asked for: mounts, names and what is refused."""

from pathlib import Path
from typing import Any

import pytest

from fedge_cri import ContainerSpec, MountPropagation
from fedge_edged.cgroups import Cgroups
from fedge_edged.environment import Environment
from fedge_edged.errors import ConfigError
from fedge_edged.pods import Pod
from fedge_edged.specs import TAKEN_UP, Places, Specs
from tests.unit.edged.kit import container_object, objects, pod


@pytest.fixture
def specs(tmp_path: Path) -> Specs:
    return Specs(
        environment=Environment(objects()),
        places=Places(logs=tmp_path / "logs", pods=tmp_path / "disk", memory=tmp_path / "memory"),
        cgroups=Cgroups(""),
        memory_bytes=1024**3,
    )


def pod_with(mount: dict[str, Any], volume: dict[str, Any] | None = None, **fields: Any) -> Pod:
    mounts = [{"name": "v", "mountPath": "/v", **mount}]
    return pod(
        containers=[container_object(volumeMounts=mounts, **fields)],
        volumes=[{"name": "v", **(volume or {"hostPath": {"path": "/srv"}})}],
    )


def container(specs: Specs, made: Pod, attempt: int = 0) -> ContainerSpec:
    return specs.container(
        made,
        made.spec.containers[0],
        attempt,
        image="image",
        volumes={"v": Path("/srv")},
        facts={"status.podIP": "10.88.0.2", "status.podIPs": "10.88.0.2,fd00::2"},
    )


def mounted(spec: ContainerSpec) -> dict[str, str]:
    return {each.container_path: each.host_path for each in spec.mounts}


def test_container_sees_its_names_and_says_its_last_words(specs: Specs) -> None:
    made = pod_with({})
    found = mounted(container(specs, made))
    assert set(found) == {"/v", "/etc/hosts", "/dev/termination-log"}
    hosts = Path(found["/etc/hosts"]).read_text()
    assert "10.88.0.2\ta\n" in hosts
    assert "fd00::2\ta\n" in hosts
    words = Path(found["/dev/termination-log"])
    assert words == specs.termination_log(made, made.spec.containers[0], 0)
    assert words.read_bytes() == b""
    assert words.stat().st_mode & 0o777 == 0o666


def test_last_words_are_kept_for_two_attempts(specs: Specs) -> None:
    made = pod_with({})
    paths = [Path(mounted(container(specs, made, n))["/dev/termination-log"]) for n in range(4)]
    assert [path.exists() for path in paths] == [False, False, True, True]


@pytest.mark.parametrize("path", ["/etc/hosts", "/dev/termination-log"])
def test_volume_is_not_hidden_by_what_the_node_mounts(specs: Specs, path: str) -> None:
    assert mounted(container(specs, pod_with({"mountPath": path})))[path] == "/srv"


@pytest.mark.parametrize(
    ("volume", "read_only"),
    [
        ({"hostPath": {"path": "/srv"}}, False),
        ({"emptyDir": {}}, False),
        ({"configMap": {"name": "cm"}}, True),
        ({"secret": {"secretName": "s"}}, True),
        ({"projected": {"sources": []}}, True),
        ({"downwardAPI": {"items": []}}, True),
    ],
)
def test_what_the_node_writes_is_read_only(
    specs: Specs, volume: dict[str, Any], *, read_only: bool
) -> None:
    [mount, *_] = container(specs, pod_with({}, volume)).mounts
    assert mount.readonly is read_only
    [mount, *_] = container(specs, pod_with({"readOnly": True}, volume)).mounts
    assert mount.readonly


def test_mounts_go_where_they_are_asked_to(specs: Specs) -> None:
    asked = {"mountPropagation": "Bidirectional"}
    privileged = {"securityContext": {"privileged": True}}
    [mount, *_] = container(specs, pod_with(asked, **privileged)).mounts
    assert mount.propagation is MountPropagation.BIDIRECTIONAL
    with pytest.raises(ConfigError, match="only to privileged containers"):
        container(specs, pod_with(asked))


@pytest.mark.parametrize(
    ("mount", "message"),
    [
        ({"subPath": "../x"}, 'subPath for volumeMount "v" of container "main"'),
        ({"subPathExpr": "of-$(NOBODY)"}, r'missing value for subPathExpr "of-\$\(NOBODY\)"'),
        ({"recursiveReadOnly": "Enabled", "readOnly": True}, "not supported by the runtime"),
        ({"recursiveReadOnly": "Enabled"}, "it is not read-only"),
        ({"name": "other"}, 'volume "other" is not in the pod'),
    ],
)
def test_mount_that_cannot_be_is_refused(specs: Specs, mount: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        container(specs, pod_with(mount))


def test_read_only_below_too_if_possible_is_read_only(specs: Specs) -> None:
    made = pod_with({"recursiveReadOnly": "IfPossible", "readOnly": True})
    assert container(specs, made).mounts[0].readonly


def test_sandbox_is_the_pods(specs: Specs) -> None:
    made = pod(
        hostname="h",
        securityContext={
            "runAsUser": 7,
            "runAsGroup": 8,
            "fsGroup": 9,
            "sysctls": [{"name": "net/ipv4/tcp_syncookies", "value": "1"}],
        },
    )
    sandbox = specs.sandbox(made, 0, taken_up_at=1.5)
    assert (sandbox.hostname, sandbox.run_as_user, sandbox.run_as_group) == ("h", 7, 8)
    assert sandbox.supplemental_groups == [9]
    assert sandbox.annotations == {TAKEN_UP: "1.5"}
    assert sandbox.sysctls == {"net.ipv4.tcp_syncookies": "1"}


def test_user_namespace_is_not_promised(specs: Specs) -> None:
    with pytest.raises(ConfigError, match="does not support user namespaces"):
        specs.sandbox(pod(hostUsers=False), 0, taken_up_at=1.5)
