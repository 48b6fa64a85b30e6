"""No field of a pod is ignored silently."""

from typing import Any

import msgspec
import pytest

from fedge_apiserver.schema import fields_of
from fedge_edged import pods
from fedge_edged.unhonoured import NOT_A_NODES, UNHONOURED, unhonoured
from tests.unit.edged.kit import container_object, pod

VIEWS: dict[str, tuple[type[msgspec.Struct], str]] = {
    "PodSpec": (pods.PodSpec, "pod"),
    "PodSecurityContext": (pods.PodSecurityContext, "pod security"),
    "Container": (pods.Container, "container"),
    "EphemeralContainer": (pods.Container, "container"),
    "SecurityContext": (pods.SecurityContext, "container security"),
    "Lifecycle": (pods.Lifecycle, "lifecycle"),
    "LifecycleHandler": (pods.LifecycleHandler, ""),
    "Probe": (pods.Probe, ""),
    "VolumeMount": (pods.VolumeMount, "mount"),
    "ContainerPort": (pods.ContainerPort, ""),
    "EnvFromSource": (pods.EnvFromSource, ""),
    "EmptyDirVolumeSource": (pods.EmptyDirSource, ""),
    "HostPathVolumeSource": (pods.HostPathSource, ""),
    "ServiceAccountTokenProjection": (pods.ServiceAccountTokenSource, "token"),
    "PodDNSConfig": (pods.DnsConfig, ""),
    "HostAlias": (pods.HostAlias, ""),
    "Toleration": (pods.Toleration, ""),
}


def known_fields(view: type[msgspec.Struct]) -> set[str]:
    return {each.encode_name for each in msgspec.structs.fields(view)}


@pytest.mark.parametrize("type_name", VIEWS)
def test_every_field_of_the_api_is_acted_on_or_told(type_name: str) -> None:
    view, where = VIEWS[type_name]
    names = NOT_A_NODES.get(where, frozenset()) | UNHONOURED.get(where, frozenset())
    assert set(fields_of(type_name)) - known_fields(view) - names == set()


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({"hostUsers": False}, "spec.hostUsers"),
        (
            {"securityContext": {"supplementalGroupsPolicy": "Strict"}},
            "spec.securityContext.supplementalGroupsPolicy",
        ),
        (
            {"containers": [container_object(lifecycle={"stopSignal": "SIGUSR1"})]},
            "spec.containers{main}.lifecycle.stopSignal",
        ),
        (
            {"containers": [container_object(resources={"limits": {"example.com/gpu": "1"}})]},
            "spec.containers{main}.resources.limits{example.com/gpu}",
        ),
        (
            {"initContainers": [container_object("i", volumeDevices=[{"name": "disk"}])]},
            "spec.initContainers{i}.volumeDevices",
        ),
    ],
)
def test_field_that_is_not_acted_on_is_told(spec: dict[str, Any], path: str) -> None:
    assert list(unhonoured(pod(**spec))) == [path]


def test_pod_as_the_api_fills_it_in_is_told_nothing_of() -> None:
    filled: dict[str, Any] = {
        "hostUsers": True,
        "schedulerName": "default-scheduler",
        "preemptionPolicy": "PreemptLowerPriority",
        "enableServiceLinks": True,
        "securityContext": {"supplementalGroupsPolicy": "Merge"},
        "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists"}],
    }
    assert list(unhonoured(pod(**filled))) == []
