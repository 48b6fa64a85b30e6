"""No field of a pod is ignored silently."""

from typing import Any

import msgspec
import pytest

from fedge_apiserver.schema import fields_of
from fedge_edged import pods
from fedge_edged.unhonoured import NOT_A_NODES, REFUSED, UNHONOURED, unhonoured
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
    "Volume": (pods.Volume, "volume"),
    "ConfigMapVolumeSource": (pods.ConfigMapSource, "files"),
    "SecretVolumeSource": (pods.SecretSource, "files"),
    "DownwardAPIVolumeSource": (pods.DownwardSource, "files"),
    "ProjectedVolumeSource": (pods.ProjectedSource, "files"),
    "VolumeProjection": (pods.Projection, "projection"),
    "ConfigMapProjection": (pods.ConfigMapSource, ""),
    "SecretProjection": (pods.SecretSource, ""),
    "DownwardAPIProjection": (pods.DownwardSource, ""),
    "KeyToPath": (pods.KeyToPath, "file"),
    "DownwardAPIVolumeFile": (pods.DownwardFile, "file"),
    "EnvVar": (pods.EnvVar, ""),
    "EnvVarSource": (pods.EnvVarSource, "variable"),
    "ObjectFieldSelector": (pods.FieldReference, "field"),
    "ResourceFieldSelector": (pods.ResourceReference, ""),
    "ConfigMapKeySelector": (pods.KeyReference, ""),
    "SecretKeySelector": (pods.KeyReference, ""),
    "ConfigMapEnvSource": (pods.LocalReference, ""),
    "SecretEnvSource": (pods.LocalReference, ""),
    "LocalObjectReference": (pods.LocalReference, ""),
    "ExecAction": (pods.ExecAction, ""),
    "HTTPGetAction": (pods.HttpGetAction, "http"),
    "HTTPHeader": (pods.HttpHeader, ""),
    "TCPSocketAction": (pods.TcpSocketAction, ""),
    "GRPCAction": (pods.GrpcAction, "grpc"),
    "SleepAction": (pods.SleepAction, ""),
    "SeccompProfile": (pods.SecurityProfile, ""),
    "AppArmorProfile": (pods.SecurityProfile, ""),
    "Capabilities": (pods.Capabilities, ""),
    "ResourceRequirements": (pods.ResourceRequirements, "resources"),
    "PodDNSConfigOption": (pods.DnsOption, ""),
    "PodReadinessGate": (pods.ReadinessGate, ""),
    "PodOS": (pods.PodOs, ""),
}


def known_fields(view: type[msgspec.Struct]) -> set[str]:
    return {each.encode_name for each in msgspec.structs.fields(view)}


@pytest.mark.parametrize("type_name", VIEWS)
def test_every_field_of_the_api_is_acted_on_or_told(type_name: str) -> None:
    view, where = VIEWS[type_name]
    names = {name for sets in (NOT_A_NODES, REFUSED, UNHONOURED) for name in sets.get(where, ())}
    assert set(fields_of(type_name)) - known_fields(view) - names == set()


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({"resources": {"limits": {"cpu": "1"}}}, "spec.resources"),
        (
            {"securityContext": {"seLinuxOptions": {"level": "s0"}}},
            "spec.securityContext.seLinuxOptions",
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
            {"volumes": [{"name": "v", "secret": {"secretName": "s", "defaultUser": 7}}]},
            "spec.volumes{v}.secret.defaultUser",
        ),
        (
            {
                "volumes": [
                    {
                        "name": "v",
                        "projected": {
                            "sources": [
                                {"configMap": {"items": [{"key": "a", "path": "a", "user": 7}]}}
                            ]
                        },
                    }
                ]
            },
            "spec.volumes{v}.configMap.items{a}.user",
        ),
        (
            {
                "containers": [
                    container_object(livenessProbe={"httpGet": {"port": 80, "protocol": "HTTP2"}})
                ]
            },
            "spec.containers{main}.livenessProbe.httpGet.protocol",
        ),
        (
            {"containers": [container_object(resources={"claims": [{"name": "gpu"}]})]},
            "spec.containers{main}.resources.claims",
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
