"""What the controller believes of who writes, though hub had let it pass."""

from typing import Any, cast

import pytest

from fedge_controller.writes import Writes
from fedge_fabric.fabric import Fabric
from fedge_fabric.writes import NOT_BELIEVED, Author, Request, Write, node_author
from fedge_kube import PODS
from fedge_objects import NodeName, ObjectKey
from tests.integration.bad_input.system import NODE
from tests.integration.edge_api.conftest import Edge, config_map

pytestmark = pytest.mark.asyncio(loop_scope="module")
EVERYTHING = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["*"]}


def creation(author: Author, name: str) -> Write:
    return Write(
        author=author,
        request=Request(
            method="POST",
            path="/api/v1/namespaces/default/configmaps",
            query="",
            content_type="application/json",
            body=config_map(name),
        ),
    )


async def test_only_the_account_of_a_pod_on_that_node_writes(edge: Edge) -> None:
    await edge.program("believed", EVERYTHING)
    pod: dict[str, Any] = await edge.kube.get(PODS, "default", "believed")
    own = Author(
        account=("default", "believed"),
        about=ObjectKey("pods", "default", "believed"),
        uid=pod["metadata"]["uid"],
    )
    writes = Writes(edge.kube, cast("Fabric", None))
    lies = {
        "another node": (NodeName("mallory"), own),
        "a pod of old": (NODE, Author(account=own.account, about=own.about, uid="older")),
        "another account": (NODE, Author(account=("default", "x"), about=own.about, uid=own.uid)),
        "no pod": (NODE, Author(account=own.account, about=ObjectKey("pods", "default", "none"))),
        "another node's root": (NodeName("mallory"), node_author(NODE)),
    }
    for what, (node, author) in lies.items():
        outcome = await writes.write(node, what, creation(author, "stolen"))
        assert (outcome.code, NOT_BELIEVED in outcome.body) == (403, True), what
    # who is believed is still bounded by the roles of the cloud
    outcome = await writes.write(NODE, "root", creation(node_author(NODE), "stolen"))
    assert outcome.code == 403
    assert "system:serviceaccount:fedge-nodes:edge-1" in outcome.body
    assert NOT_BELIEVED not in outcome.body
    outcome = await writes.write(NODE, "own", creation(own, "given"))
    assert outcome.code == 201


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/namespaces/default/configmaps/../../../nodes",
        "/healthz",
        "/api/v1/namespaces/default/configmaps/a?dryRun=All",
        "//evil/api/v1/x",
        "/api/v1/\r\nHost: x",
        "/apis/../api/v1/nodes",
    ],
)
async def test_no_path_leads_out_of_the_api(edge: Edge, path: str) -> None:
    writes = Writes(edge.kube, cast("Fabric", None))
    request = Request(
        method="DELETE", path=path, query="", content_type="application/json", body=None
    )
    outcome = await writes.write(NODE, "1", Write(author=node_author(NODE), request=request))
    assert outcome.code == 400
