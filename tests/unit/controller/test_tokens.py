"""Which tokens a node is given, and which it is not."""

from typing import Any, cast

import pytest

from fedge_controller.tokens import Tokens
from fedge_fabric.fabric import Fabric
from fedge_kube import PODS, SERVICE_ACCOUNTS, KubeClient, NotFoundError, Resource
from fedge_objects import JsonObject, NodeName, ObjectKey

NODE = NodeName("edge-1")
KEY = ObjectKey("pods", "default", "a")
KEY_OF_CLOUD = {"kty": "EC", "kid": "1"}
ASKED = {"uid": "u", "service_account": "reader", "audience": "vault", "seconds": 700}


class Api(KubeClient):
    """Has one pod, and issues what it is asked for."""

    def __init__(self, pod: JsonObject | None) -> None:
        self._pod = pod
        self.specs: list[tuple[str, JsonObject]] = []

    async def get(self, resource: Resource, namespace: str, name: str) -> JsonObject:
        assert resource is PODS
        if self._pod is None:
            raise NotFoundError(f"{namespace}/{name}")
        return self._pod

    async def create_token(
        self, resource: Resource, namespace: str, account: str, spec: JsonObject
    ) -> JsonObject:
        assert (resource, namespace) == (SERVICE_ACCOUNTS, "default")
        self.specs.append((account, spec))
        return {"token": "t", "expirationTimestamp": "2027-01-01T00:00:00Z"}

    async def issuer_keys(self) -> tuple[str, JsonObject]:
        return "https://cloud", {"keys": [KEY_OF_CLOUD]}


def pod(**changes: Any) -> JsonObject:
    spec = {"nodeName": NODE, "serviceAccountName": "reader", **changes}
    return {"metadata": {"name": "a", "uid": "u"}, "spec": spec}


async def issued(api: Api, **changes: Any) -> JsonObject | None:
    tokens = Tokens(api, cast("Fabric", None))
    return await tokens.token(NODE, KEY, {**ASKED, **changes})


async def test_token_is_bound_to_the_pod() -> None:
    api = Api(pod())
    assert await issued(api) == {
        "token": "t",
        "expires": "2027-01-01T00:00:00Z",
        "issuer": "https://cloud",
        "keys": [KEY_OF_CLOUD],
    }
    [(account, spec)] = api.specs
    assert account == "reader"
    assert spec["audiences"] == ["vault"]
    assert spec["expirationSeconds"] == 700
    assert spec["boundObjectRef"] == {"apiVersion": "v1", "kind": "Pod", "name": "a", "uid": "u"}


async def test_no_audience_is_the_servers_own() -> None:
    api = Api(pod())
    await issued(api, audience="")
    assert api.specs[0][1]["audiences"] == []


@pytest.mark.parametrize(
    ("found", "asked"),
    [
        (pod(nodeName="edge-2"), {}),
        (pod(nodeName=None), {}),
        (pod(serviceAccountName="other"), {}),
        (pod(), {"uid": "another"}),
        (pod(), {"service_account": "admin"}),
        (None, {}),
    ],
)
async def test_node_gets_no_token_of_what_is_not_its_own(
    found: JsonObject | None, asked: dict[str, Any]
) -> None:
    api = Api(found)
    assert await issued(api, **asked) is None
    assert api.specs == []
