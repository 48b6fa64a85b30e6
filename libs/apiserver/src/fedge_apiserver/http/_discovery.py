"""What the server serves, as clients ask for it.

https://kubernetes.io/docs/concepts/overview/kubernetes-api/#discovery-api
"""

from typing import Any, Final

from fedge_apiserver.http._messages import Request, encode
from fedge_apiserver.resources import Catalog, Resource
from fedge_objects import JsonObject

VERSION: Final = {
    "major": "1",
    "minor": "32",
    "gitVersion": "v1.32.0+fedge",
    "gitCommit": "",
    "gitTreeState": "clean",
    "buildDate": "1970-01-01T00:00:00Z",
    "goVersion": "",
    "compiler": "",
    "platform": "linux/amd64",
}
"""The Kubernetes whose behaviour the server follows."""

_KIND_GROUPS: Final = {"Eviction": "policy", "Scale": "autoscaling"}
"""Groups of subresources' kinds that lie in another than their resource's."""
_AGGREGATED: Final = "g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


class Discovery:
    """Answers for ``/api`` and ``/apis``."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    async def roots(self, request: Request, *, is_core: bool) -> None:
        """Answer ``/api`` or ``/apis``: all groups, with all resources if the client can."""
        if _AGGREGATED in request.header(b"accept").replace(" ", ""):
            content_type = f"application/json;{_AGGREGATED}".encode()
            await request.answer(
                encode(self._aggregated(is_core=is_core)), content_type=content_type
            )
        elif is_core:
            await request.answer_json(
                {
                    "kind": "APIVersions",
                    "versions": ["v1"],
                    "serverAddressByClientCIDRs": [],
                }
            )
        else:
            groups = [self._group(name) for name in self._catalog.versions() if name]
            await request.answer_json(
                {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
            )

    def group(self, name: str) -> JsonObject | None:
        """Return ``/apis/GROUP``; None if it is not served."""
        if not name or name not in self._catalog.versions():
            return None
        return {"kind": "APIGroup", "apiVersion": "v1", **self._group(name)}

    def resources(self, group: str, version: str) -> JsonObject | None:
        """Return ``/apis/GROUP/VERSION``; None if it is not served."""
        served = [r for r in self._catalog if r.group == group and r.version == version]
        if not served:
            return None
        entries: list[JsonObject] = []
        for resource in served:
            entries.append(_resource(resource))
            entries.extend(_subresource(resource, name) for name in resource.subresources)
        group_version = f"{group}/{version}" if group else version
        return {
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": group_version,
            "resources": entries,
        }

    def _group(self, name: str) -> JsonObject:
        versions = [
            {"groupVersion": f"{name}/{version}", "version": version}
            for version in self._catalog.versions()[name]
        ]
        return {"name": name, "versions": versions, "preferredVersion": versions[0]}

    def _aggregated(self, *, is_core: bool) -> JsonObject:
        items: list[JsonObject] = []
        for group, versions in self._catalog.versions().items():
            if bool(group) is is_core:
                continue
            items.append(
                {
                    "metadata": {"name": group, "creationTimestamp": None} if group else {},
                    "versions": [
                        {
                            "version": version,
                            "freshness": "Current",
                            "resources": [
                                _aggregated_resource(resource)
                                for resource in self._catalog
                                if resource.group == group and resource.version == version
                            ],
                        }
                        for version in versions
                    ],
                }
            )
        return {
            "kind": "APIGroupDiscoveryList",
            "apiVersion": "apidiscovery.k8s.io/v2",
            "metadata": {},
            "items": items,
        }


def _subresource_facts(name: str) -> tuple[str, list[str]]:
    """Return a subresource's kind (empty: its parent's) and verbs."""
    match name:
        case "binding":
            return "Binding", ["create"]
        case "eviction":
            return "Eviction", ["create"]
        case "log":
            return "", ["get"]
        case "scale":
            return "Scale", ["get", "patch", "update"]
        case "finalize":
            return "", ["update"]
        case "proxy":
            return "NodeProxyOptions", ["get"]
        case _:
            return "", ["get", "patch", "update"]


def _resource(resource: Resource) -> JsonObject:
    value: dict[str, Any] = {
        "name": resource.plural,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": list(resource.verbs),
    }
    if resource.short_names:
        value["shortNames"] = list(resource.short_names)
    if resource.categories:
        value["categories"] = list(resource.categories)
    return value


def _subresource(resource: Resource, name: str) -> JsonObject:
    kind, verbs = _subresource_facts(name)
    value: JsonObject = {
        "name": f"{resource.plural}/{name}",
        "singularName": "",
        "namespaced": resource.namespaced,
        "kind": kind or resource.kind,
        "verbs": verbs,
    }
    if (group := _KIND_GROUPS.get(kind)) is not None:
        value["group"], value["version"] = group, "v1"
    return value


def _aggregated_resource(resource: Resource) -> JsonObject:
    value: dict[str, Any] = {
        "resource": resource.plural,
        "responseKind": {
            "group": resource.group,
            "version": resource.version,
            "kind": resource.kind,
        },
        "scope": "Namespaced" if resource.namespaced else "Cluster",
        "singularResource": resource.singular,
        "verbs": list(resource.verbs),
    }
    if resource.short_names:
        value["shortNames"] = list(resource.short_names)
    if resource.categories:
        value["categories"] = list(resource.categories)
    if resource.subresources:
        value["subresources"] = [
            {
                "subresource": name,
                "responseKind": {
                    "group": _KIND_GROUPS.get(_subresource_facts(name)[0], resource.group),
                    "version": resource.version,
                    "kind": _subresource_facts(name)[0] or resource.kind,
                },
                "verbs": _subresource_facts(name)[1],
            }
            for name in resource.subresources
        ]
    return value
