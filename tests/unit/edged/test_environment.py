"""Environments: expansion, references, and what is said when something is missing."""

from typing import Any

import pytest

from fedge_edged.environment import Environment, expand
from fedge_edged.errors import ConfigError
from fedge_edged.node_pods import NodeObjects
from tests.unit.edged.kit import config_map, container_object, objects, pod, secret


def env_of(
    env: list[dict[str, Any]],
    held: NodeObjects | None = None,
    *,
    env_from: list[dict[str, Any]] | None = None,
    facts: dict[str, str] | None = None,
    meta: dict[str, Any] | None = None,
    **container: Any,
) -> dict[str, str]:
    made = pod(
        meta=meta,
        containers=[container_object(env=env, envFrom=env_from or [], **container)],
        nodeName="edge-1",
        serviceAccountName="reader",
    )
    return Environment(held or NodeObjects()).of(made, made.spec.containers[0], facts or {})


def source(kind: str, **ref: Any) -> dict[str, Any]:
    return {"name": "X", "valueFrom": {kind: ref}}


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("plain", "plain"),
        ("$(A)", "1"),
        ("<$(A)$(B)>", "<12>"),
        ("$(UNKNOWN)", "$(UNKNOWN)"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$$$$(A)", "$$(A)"),
        ("$A ${A}", "$A ${A}"),
        ("$(", "$("),
        ("$", "$"),
        ("$()", "$()"),
        ("$(A", "$(A"),
        ("$($(A))", "$($(A))"),
        ("$(A$(B))", "$(A$(B))"),
    ],
)
def test_references_are_expanded_as_kubernetes_does(text: str, expanded: str) -> None:
    assert expand(text, {"A": "1", "B": "2"}) == expanded


def test_value_sees_only_what_stands_before_it() -> None:
    env = env_of(
        [
            {"name": "EARLY", "value": "$(LATE)"},
            {"name": "LATE", "value": "l"},
            {"name": "BOTH", "value": "$(EARLY)-$(LATE)"},
        ]
    )
    assert env == {"EARLY": "$(LATE)", "LATE": "l", "BOTH": "$(LATE)-l"}


def test_variable_wins_over_the_same_name_from_a_whole_object() -> None:
    held = objects(configmaps=[config_map("cm", {"A": "map", "B": "map"})])
    env = env_of(
        [{"name": "A", "value": "own"}, {"name": "C", "value": "$(B)"}],
        held,
        env_from=[{"configMapRef": {"name": "cm"}}],
    )
    assert env == {"A": "own", "B": "map", "C": "map"}


def test_later_object_wins_and_prefix_is_put_before_names() -> None:
    held = objects(
        configmaps=[config_map("one", {"A": "1"}), config_map("two", {"A": "2"})],
        secrets=[secret("s", {"P": "pw"})],
    )
    env = env_of(
        [],
        held,
        env_from=[
            {"configMapRef": {"name": "one"}},
            {"configMapRef": {"name": "two"}},
            {"prefix": "DB_", "secretRef": {"name": "s"}},
        ],
    )
    assert env == {"A": "2", "DB_P": "pw"}


def test_names_that_no_variable_can_have_are_left_out() -> None:
    data = {"1x": "yes", "ok.y-1": "yes", "a=b": "no", "ü": "no", "": "no", "a\n": "no"}
    held = objects(configmaps=[config_map("cm", data)])
    env = env_of([], held, env_from=[{"configMapRef": {"name": "cm"}}])
    assert env == {"1x": "yes", "ok.y-1": "yes"}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("metadata.name", "a"),
        ("metadata.namespace", "default"),
        ("metadata.uid", "uid-a"),
        ("metadata.labels['app.kubernetes.io/name']", "web"),
        ("metadata.labels['none']", ""),
        ("metadata.annotations['note']", 'say "hi"'),
        ("spec.nodeName", "edge-1"),
        ("spec.serviceAccountName", "reader"),
        ("status.podIP", "10.88.0.2"),
        ("status.hostIP", "192.0.2.1"),
    ],
)
def test_field_of_the_pod_is_a_value(path: str, value: str) -> None:
    env = env_of(
        [source("fieldRef", fieldPath=path)],
        facts={"status.podIP": "10.88.0.2", "status.hostIP": "192.0.2.1"},
        meta={"labels": {"app.kubernetes.io/name": "web"}, "annotations": {"note": 'say "hi"'}},
    )
    assert env == {"X": value}


def test_unknown_field_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"^unsupported fieldPath: spec.nothing$"):
        env_of([source("fieldRef", fieldPath="spec.nothing")])


@pytest.mark.parametrize(
    ("resource", "divisor", "value"),
    [
        ("limits.cpu", "0", "2"),
        ("limits.cpu", "1m", "1500"),
        ("requests.cpu", "1", "1"),
        ("limits.memory", "0", "67108864"),
        ("limits.memory", "1Mi", "64"),
        ("limits.memory", "1Gi", "1"),
    ],
)
def test_limits_are_values_rounded_up(resource: str, divisor: str, value: str) -> None:
    env = env_of(
        [source("resourceFieldRef", resource=resource, divisor=divisor)],
        resources={"limits": {"cpu": "1500m", "memory": "64Mi"}, "requests": {"cpu": "250m"}},
    )
    assert env == {"X": value}


def test_key_of_a_config_map_and_of_a_secret_is_a_value() -> None:
    held = objects(
        configmaps=[config_map("cm", {"k": "$(not expanded)"})], secrets=[secret("s", {"k": "pä"})]
    )
    env = env_of(
        [
            source("configMapKeyRef", name="cm", key="k"),
            {**source("secretKeyRef", name="s", key="k"), "name": "Y"},
        ],
        held,
    )
    assert env == {"X": "$(not expanded)", "Y": "pä"}


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("configMapKeyRef", 'configmap "gone" not found'),
        ("secretKeyRef", 'secret "gone" not found'),
    ],
)
def test_missing_object_is_named_as_the_kubelet_does(kind: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}$") as raised:
        env_of([source(kind, name="gone", key="k")])
    assert raised.value.reason == "CreateContainerConfigError"
    assert env_of([source(kind, name="gone", key="k", optional=True)]) == {}


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("configMapKeyRef", "couldn't find key none in ConfigMap default/both"),
        ("secretKeyRef", "couldn't find key none in Secret default/both"),
    ],
)
def test_missing_key_is_named_as_the_kubelet_does(kind: str, message: str) -> None:
    held = objects(configmaps=[config_map("both", {})], secrets=[secret("both", {})])
    with pytest.raises(ConfigError, match=f"^{message}$"):
        env_of([source(kind, name="both", key="none")], held)
    assert env_of([source(kind, name="both", key="none", optional=True)], held) == {}


@pytest.mark.parametrize("kind", ["configMapRef", "secretRef"])
def test_missing_whole_object_is_missed_unless_optional(kind: str) -> None:
    with pytest.raises(ConfigError, match='"gone" not found'):
        env_of([], env_from=[{kind: {"name": "gone"}}])
    assert env_of([], env_from=[{kind: {"name": "gone", "optional": True}}]) == {}


def test_value_is_never_taken_from_another_namespace() -> None:
    held = objects(configmaps=[config_map("cm", {"k": "v"})])
    made = pod(
        meta={"namespace": "other"},
        containers=[container_object(env=[source("configMapKeyRef", name="cm", key="k")])],
    )
    with pytest.raises(ConfigError, match='configmap "cm" not found'):
        Environment(held).of(made, made.spec.containers[0], {})


def test_source_that_is_not_supported_is_not_left_unset() -> None:
    with pytest.raises(ConfigError, match="source that this node does not support"):
        env_of([source("fileKeyRef", volumeName="v", path="env", key="A")])
