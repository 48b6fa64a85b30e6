"""Pods that the node runs of its own accord, each from a file in one of its folders.

They run without the cloud ever having been there, and nothing that the cloud says ends them. A file
that cannot be read changes nothing: whatever it said before goes on, and the log names it.

The API does not know these pods: no mirror pod is made, so that they show in the node's log, in
events and in the runtime, not in ``kubectl get pods``.

https://kubernetes.io/docs/tasks/configure-pod-container/static-pod/
"""

import asyncio
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from fedge_edged.importance import SOURCE
from fedge_edged.node_pods import NodePods
from fedge_edged.pods import read_pod
from fedge_objects import JsonObject, NodeName, ObjectKey, references

log = structlog.stdlib.get_logger("fedge.edged")

HASH = "kubernetes.io/config.hash"
SCAN_SECONDS = 20.0
"""How often the folder is looked at, as by the kubelet; a file is read only if it has changed."""
_STAYS = {"operator": "Exists", "effect": "NoExecute"}

Signature = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class _File:
    """A file as last looked at; ``pod`` is None as long as it made no sense."""

    signature: Signature
    pod: JsonObject | None
    is_good: bool


class StaticPods:
    """Keeps the node's pods as the files say."""

    def __init__(self, folder: Path, *, node: NodeName, pods: NodePods) -> None:
        """Take the folder, the node's name and where its pods are run."""
        self._folder = folder
        self._node = node
        self._pods = pods
        self._files: dict[str, _File] = {}
        self._running: dict[ObjectKey, str] = {}
        self._ending: set[str] = set()

    async def run(self) -> None:
        """Follow the files until cancelled."""
        while True:
            await asyncio.sleep(SCAN_SECONDS)
            await self.scan()

    async def scan(self) -> None:
        """Look at the folder once, and bring the node's pods to what the files say."""
        try:
            self._files = await asyncio.to_thread(self._read)
        except OSError as exc:
            log.warning("static_pods_unreadable", folder=str(self._folder), reason=str(exc))
            return
        self._apply()
        if all(each.is_good for each in self._files.values()):
            self._pods.statics_are_known = True

    def _read(self) -> dict[str, _File]:
        found: dict[str, _File] = {}
        for path in sorted(self._folder.iterdir()):
            if path.name.startswith(".") or not path.is_file():
                continue
            stat = path.stat()
            signature = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            known = self._files.get(path.name)
            if known is not None and known.signature == signature:
                found[path.name] = known
                continue
            fault = ""
            pod = known.pod if known is not None else None
            try:
                pod = read_manifest(path, node=self._node)
            except (ValueError, OSError) as exc:
                fault = str(exc)
            if fault:
                log.error("static_pod_unreadable", file=str(path), reason=fault)
            found[path.name] = _File(signature, pod, is_good=not fault)
        return found

    def _wanted(self) -> dict[ObjectKey, JsonObject]:
        wanted: dict[ObjectKey, JsonObject] = {}
        for name, file in self._files.items():
            if file.pod is None:
                continue
            key = _key(file.pod)
            if key in wanted:
                log.error("static_pod_twice", file=name, pod=str(key))
                continue
            wanted[key] = file.pod
        return wanted

    def _apply(self) -> None:
        """Start what is new; what has changed ends first, and is started by a later look."""
        wanted = self._wanted()
        for key, uid in list(self._running.items()):
            if key not in wanted or wanted[key]["metadata"]["uid"] != uid:
                log.info("static_pod_ends", pod=str(key))
                self._pods.drop_static(key)
                del self._running[key]
                self._ending.add(uid)
        self._ending = {uid for uid in self._ending if self._pods.has(uid)}
        if self._ending:
            return
        for key, pod in wanted.items():
            if key not in self._running:
                log.info("static_pod_taken", pod=str(key))
                self._pods.take_static(key, pod)
                self._running[key] = pod["metadata"]["uid"]


def read_manifest(path: Path, *, node: NodeName) -> JsonObject:
    """Return the pod of a file, named and marked as the kubelet does.

    Its uid follows from what the file says, so that an unchanged file stays the same pod.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no pod that a node can run of its own accord.
    """
    obj = _decode(path)
    if not isinstance(obj, dict) or (obj.get("apiVersion"), obj.get("kind")) != ("v1", "Pod"):
        raise ValueError("expected one object of apiVersion v1 and kind Pod")
    metadata, spec = obj.get("metadata"), obj.get("spec")
    if not isinstance(metadata, dict) or not metadata.get("name") or not isinstance(spec, dict):
        raise ValueError("metadata.name or spec is missing")
    said = json.dumps(obj, sort_keys=True, default=str)
    marked = f"{said}host:{node}file:{path}"
    digest = hashlib.md5(marked.encode(), usedforsecurity=False).hexdigest()
    pod = {
        **obj,
        "metadata": {
            **metadata,
            "name": f"{metadata['name']}-{node}",
            "namespace": metadata.get("namespace") or "default",
            "uid": metadata.get("uid") or digest,
            "annotations": {**(metadata.get("annotations") or {}), HASH: digest, SOURCE: "file"},
        },
        "spec": {
            **spec,
            "nodeName": node,
            "tolerations": [*(spec.get("tolerations") or ()), _STAYS],
        },
    }
    _check(pod)
    return pod


def _check(pod: JsonObject) -> None:
    read_pod(pod)
    own = ObjectKey("serviceaccounts", pod["metadata"]["namespace"], "default")
    others = sorted(str(each) for each in references(pod) - {own})
    if others:
        raise ValueError(f"a static pod cannot refer to objects of the API: {', '.join(others)}")


def _decode(path: Path) -> Any:
    text = path.read_text()
    if path.suffix == ".json":
        return json.loads(text)
    import yaml  # noqa: PLC0415 - only nodes with such pods load it

    class Loader(yaml.SafeLoader):
        """Leaves times as they are written, as JSON does."""

    Loader.yaml_implicit_resolvers = {
        first: [each for each in resolvers if each[0] != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    try:
        return yaml.load(text, Loader)  # noqa: S506 - it is the safe one
    except yaml.YAMLError as exc:
        raise ValueError(str(exc)) from exc


def _key(pod: JsonObject) -> ObjectKey:
    return ObjectKey("pods", pod["metadata"]["namespace"], pod["metadata"]["name"])
