"""The kinds of devices: structural schemas that take KubeEdge's manifests and our examples."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from fedge_apiserver.errors import Causes
from fedge_apiserver.schema import check_schema, check_structural, prune

ROOT = Path(__file__).parents[3]
CRDS = {
    crd["spec"]["names"]["kind"]: crd
    for path in sorted((ROOT / "deploy" / "k8s" / "base" / "crds").glob("devices.*.yaml"))
    for crd in [yaml.safe_load(path.read_text())]
}


def schema_of(kind: str) -> dict[str, Any]:
    [version] = CRDS[kind]["spec"]["versions"]
    schema: dict[str, Any] = version["schema"]["openAPIV3Schema"]
    return schema


def problems(obj: dict[str, Any]) -> list[object]:
    schema = schema_of(obj["kind"])
    causes = Causes()
    unknown = prune(obj, schema)
    check_structural(obj, schema, causes)
    return [*unknown, *causes.found]


@pytest.mark.parametrize("kind", CRDS)
def test_schema_is_structural_and_columns_point_into_it(kind: str) -> None:
    crd = CRDS[kind]
    names, [version] = crd["spec"]["names"], crd["spec"]["versions"]
    assert crd["metadata"]["name"] == f"{names['plural']}.{crd['spec']['group']}"
    assert version["name"] == "v1beta1"
    causes = Causes()
    check_schema(version["schema"]["openAPIV3Schema"], "schema", causes)
    assert causes.found == []
    for column in version["additionalPrinterColumns"]:
        at = schema_of(kind)
        path = column["jsonPath"].removeprefix(".").split(".")
        if path[0] != "metadata":
            for name in path:
                at = at["properties"][name]
            assert at["type"] == column["type"]


def test_status_is_a_subresource_where_there_is_one() -> None:
    has = {kind: "subresources" in crd["spec"]["versions"][0] for kind, crd in CRDS.items()}
    assert has == {"Device": True, "DeviceModel": False, "DeviceStatus": True}


def test_examples_are_valid() -> None:
    examples = [
        obj
        for path in (ROOT / "examples" / "thermometer").glob("*.yaml")
        for obj in yaml.safe_load_all(path.read_text())
    ]
    assert {obj["kind"] for obj in examples} == {"Device", "DeviceModel"}
    for obj in examples:
        assert problems(obj) == []


def test_a_device_with_every_field_is_taken_whole() -> None:
    config = {"configData": {"any": ["thing", 1]}, "protocolName": "modbus"}
    device = {
        "apiVersion": "devices.kubeedge.io/v1beta1",
        "kind": "Device",
        "metadata": {"name": "d"},
        "spec": {
            "deviceModelRef": {"name": "m"},
            "nodeName": "edge-1",
            "properties": [
                {
                    "name": "temp",
                    "desired": {"value": "20", "metadata": {"type": "int"}},
                    "visitors": config,
                    "reportCycle": 1000,
                    "collectCycle": 1000,
                    "reportToCloud": True,
                    "mergeRule": "last-write",
                    "pushMethod": {
                        "http": {"hostName": "h", "port": 80, "requestPath": "/", "timeout": 1},
                        "mqtt": {"address": "a", "topic": "t", "qos": 1, "retained": False},
                        "otel": {"endpointURL": "http://otel"},
                        "dbMethod": {"redis": {"redisClientConfig": {"addr": "a", "db": 0}}},
                        "anomalyDetection": {"x": 1},
                    },
                },
                {"name": "shape", "desired": {"value": {"any": [1, None]}}},
            ],
            "protocol": config,
            "methods": [{"name": "m", "description": "d", "propertyNames": ["temp"]}],
            "stateReport": {"reportToCloud": True, "reportCycle": 1000},
        },
        "status": {
            "state": "online",
            "desired": "temp=20",
            "reported": "temp=19",
            "sync": "Pending",
            "lastOnlineTime": "2026-08-06T10:00:00Z",
            "conditions": [
                {
                    "type": "Synced",
                    "status": "False",
                    "reason": "Pending",
                    "message": "m",
                    "lastTransitionTime": "2026-08-06T10:00:00Z",
                    "observedGeneration": 1,
                }
            ],
            "desiredStamps": {
                "temp": {"value": "20", "at": 1, "seen": 0},
                "shape": {"value": {"any": [1, None]}, "at": 2**62, "seen": 1},
            },
        },
    }
    assert problems(device) == []


def test_columns_say_in_one_line_how_a_device_is() -> None:
    [version] = CRDS["Device"]["spec"]["versions"]
    shown = [each["name"] for each in version["additionalPrinterColumns"] if "priority" not in each]
    assert shown == ["Node", "Model", "State", "Desired", "Reported", "Sync", "Age"]


@pytest.mark.parametrize("kind", ["Device", "DeviceModel"])
def test_merge_rules_are_those_that_there_are(kind: str) -> None:
    for rule, is_good in (("edge-wins", True), ("first-come", False)):
        spec = {"properties": [{"name": "temp", "mergeRule": rule}]}
        assert (
            bool(problems({"kind": kind, "metadata": {"name": "d"}, "spec": spec})) is not is_good
        )


def test_bounds_of_a_model_are_numbers() -> None:
    for bound, is_good in (("-4.5e1", True), ("", True), (".5", True), ("cold", False), ("1_0", 0)):
        spec = {"properties": [{"name": "temp", "minimum": bound}]}
        model = {"kind": "DeviceModel", "metadata": {"name": "m"}, "spec": spec}
        assert bool(problems(model)) is not bool(is_good), bound


@pytest.mark.parametrize(
    ("field", "value"),
    [("nodeName", 1), ("properties", [{"desired": {"value": "1"}}]), ("properties", "none")],
)
def test_a_wrong_device_is_refused(field: str, value: object) -> None:
    device = {"kind": "Device", "metadata": {"name": "d"}, "spec": {field: value}}
    assert problems(device)
