"""The trace that an apply begins: named by what is changed, and by nothing else."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from fedge_cli import apply_trace
from fedge_cli.applying import Applied, DryRun, apply_objects
from tests.fixtures.otlp import Received, read
from tests.unit.cli.server import Answer, Server, not_found

PATH = "/api/v1/namespaces/default/configmaps/settings"
SPANS = "/api/v1/namespaces/fedge-system/services/fedge-hub:http/proxy/v1/traces"
ANNOTATION = "fedge.io/traceparent"
OLD = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Cluster:
    """Has one config map, or none; knows what was sent, and what dry runs were made."""

    def __init__(
        self, before: dict[str, Any] | None = None, *, spans_are_taken: bool = True
    ) -> None:
        self.object = before
        self.sent: list[dict[str, Any]] = []
        self.tried = 0
        self.spans: list[Received] = []
        self.server = Server(
            {
                f"GET {PATH}": self._get,
                f"PATCH {PATH}": self._patch,
                f"POST {SPANS}": self._spans if spans_are_taken else not_found("the path"),
            }
        )

    def _get(self, _: httpx.Request) -> Answer:
        return self.object or not_found("it")

    def _patch(self, request: httpx.Request) -> Answer:
        asked = json.loads(request.content)
        if "dryRun" in request.url.params:
            self.tried += 1
            return dict(asked)
        self.sent.append(asked)
        return dict(asked)

    def _spans(self, request: httpx.Request) -> Answer:
        self.spans += read(ExportTraceServiceRequest.FromString(request.content))
        return {}

    def apply(self, tmp_path: Path, **more: Any) -> tuple[list[Applied], str]:
        path = tmp_path / "map.yaml"
        path.write_text(json.dumps(manifest(**more)))
        with self.server.api() as api, apply_trace.begun(api, "fedge-system") as trace:
            done = [
                each
                for each in apply_objects(api, str(path), default_namespace="default")
                if isinstance(each, Applied)
            ]
            trace.is_wanted = any(each.did != "unchanged" for each in done)
            return done, trace.trace_id

    def named(self) -> str:
        annotations = self.sent[-1]["metadata"].get("annotations") or {}
        return str(annotations.get(ANNOTATION, ""))


def manifest(value: str = "1", annotation: str = "") -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": "settings", "namespace": "default"}
    if annotation:
        metadata["annotations"] = {ANNOTATION: annotation}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"a": value}}


@pytest.fixture(autouse=True)
def all_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FEDGE_TRACE_RATIO", raising=False)


def test_new_object_names_the_span_that_made_it(tmp_path: Path) -> None:
    cluster = Cluster()
    [done], trace_id = cluster.apply(tmp_path)
    assert done.did == "created"
    root, below = sorted(cluster.spans, key=lambda each: each.start)
    assert (root.name, below.name) == ("apply", "apply configmaps")
    assert root.service == "fedge-cli"
    assert below.parent_id == root.span_id
    assert below.attributes["fedge.object"] == "configmaps/default/settings"
    assert cluster.named() == f"00-{trace_id}-{below.span_id}-01"


def test_object_that_changes_names_the_new_trace(tmp_path: Path) -> None:
    cluster = Cluster(manifest("1", OLD))
    [done], trace_id = cluster.apply(tmp_path, value="2")
    assert done.did == "configured"
    assert cluster.named().split("-")[1] == trace_id
    assert cluster.tried == 1


def test_object_that_stays_as_it_is_keeps_its_trace_and_nothing_is_told(tmp_path: Path) -> None:
    cluster = Cluster(manifest("1", OLD))
    [done], _ = cluster.apply(tmp_path)
    assert done.did == "unchanged"
    assert cluster.named() == OLD
    assert cluster.spans == []


def test_trace_that_a_manifest_names_stands(tmp_path: Path) -> None:
    cluster = Cluster()
    cluster.apply(tmp_path, annotation=OLD)
    assert cluster.named() == OLD


def test_nothing_is_named_where_nothing_is_traced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDGE_TRACE_RATIO", "0")
    cluster = Cluster()
    _, trace_id = cluster.apply(tmp_path)
    assert trace_id == ""
    assert cluster.named() == ""
    assert cluster.spans == []


def test_hub_that_takes_no_spans_is_told_of_and_all_else_is_done(tmp_path: Path) -> None:
    cluster = Cluster(spans_are_taken=False)
    path = tmp_path / "map.yaml"
    path.write_text(json.dumps(manifest()))
    with cluster.server.api() as api, apply_trace.begun(api, "fedge-system") as trace:
        [done] = apply_objects(api, str(path), default_namespace="default")
        trace.is_wanted = True
    assert isinstance(done, Applied)
    assert str(trace).startswith(f"trace {trace.trace_id} (without its beginning, which hub did")


def test_dry_run_names_no_trace_and_takes_none_away(tmp_path: Path) -> None:
    cluster = Cluster(manifest("1", OLD))
    path = tmp_path / "map.yaml"
    path.write_text(json.dumps(manifest()))
    with cluster.server.api() as api, apply_trace.begun(api, "fedge-system"):
        [done] = apply_objects(api, str(path), default_namespace="default", dry_run=DryRun.SERVER)
    assert isinstance(done, Applied)
    assert done.did == "unchanged"
    assert cluster.sent == []
