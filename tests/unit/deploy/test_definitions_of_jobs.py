"""The kinds of jobs: structural schemas that take KubeEdge's manifests as they are."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from fedge_apiserver.errors import Causes
from fedge_apiserver.schema import check_schema, check_structural, prune

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "deploy" / "k8s" / "base" / "crds"
CRDS = {
    crd["spec"]["names"]["kind"]: crd
    for path in sorted(FOLDER.glob("operations.*.yaml"))
    for crd in [yaml.safe_load(path.read_text())]
}
JOBS = ("ConfigUpdateJob", "ImagePrePullJob", "NodeUpgradeJob")
SELECTOR = {
    "matchLabels": {"site": "x"},
    "matchExpressions": [{"key": "site", "operator": "In", "values": ["x"]}],
}
MANIFESTS = {
    "ImagePrePullJob": {
        "imagePrePullTemplate": {
            "images": ["busybox:1.36"],
            "nodeNames": ["edge-1"],
            "labelSelector": SELECTOR,
            "checkItems": ["disk"],
            "failureTolerate": "0.3",
            "concurrency": 2,
            "timeoutSeconds": 180,
            "imageSecrets": "default/pull",
            "retryTimes": 1,
        }
    },
    "ConfigUpdateJob": {
        "nodeNames": ["edge-1"],
        "labelSelector": SELECTOR,
        "timeoutSeconds": 180,
        "concurrency": 1,
        "failureTolerate": "0.3",
        "updateFields": {"modules.edged.tailoredKubeletConfig.maxPods": "20"},
    },
    "NodeUpgradeJob": {
        "version": "v1.21.0",
        "timeoutSeconds": 60,
        "nodeNames": ["edge-1"],
        "labelSelector": SELECTOR,
        "image": "kubeedge/installation-package",
        "imageDigestGatter": {
            "amd64": "sha256:" + "0" * 64,
            "arm64": "sha256:" + "1" * 64,
            "registryAPI": {"host": "registry.example", "token": "t"},
        },
        "concurrency": 1,
        "checkItems": ["cpu", "mem", "disk"],
        "failureTolerate": "0.3",
        "requireConfirmation": True,
    },
}


def schema_of(kind: str) -> dict[str, Any]:
    [version] = CRDS[kind]["spec"]["versions"]
    schema: dict[str, Any] = version["schema"]["openAPIV3Schema"]
    return schema


def test_all_kinds_are_there() -> None:
    assert set(CRDS) == {*JOBS, "NodeTask"}
    named = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["resources"]
    assert set(named) == {each.name for each in FOLDER.glob("*.io_*.yaml")}


@pytest.mark.parametrize("kind", CRDS)
def test_schema_is_structural_and_columns_point_into_it(kind: str) -> None:
    crd = CRDS[kind]
    names, [version] = crd["spec"]["names"], crd["spec"]["versions"]
    assert crd["metadata"]["name"] == f"{names['plural']}.{crd['spec']['group']}"
    assert version["name"] == ("v1alpha1" if kind == "NodeTask" else "v1alpha2")
    assert version["subresources"] == {"status": {}}
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


@pytest.mark.parametrize("kind", JOBS)
def test_manifests_of_kubeedge_are_taken_whole(kind: str) -> None:
    obj = {
        "apiVersion": "operations.kubeedge.io/v1alpha2",
        "kind": kind,
        "metadata": {"name": "j"},
        "spec": MANIFESTS[kind],
    }
    causes = Causes()
    assert list(prune(obj, schema_of(kind))) == []
    check_structural(obj, schema_of(kind), causes)
    assert causes.found == []
