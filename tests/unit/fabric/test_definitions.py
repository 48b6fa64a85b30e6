"""What a broker is configured with at boot."""

import re

from fedge_fabric import topology
from fedge_fabric.definitions import User, cloud_definitions, edge_definitions, link_queue
from fedge_objects import NodeName

NODE = NodeName("gw-1.plant.example")
ADMIN = User(name="fedge", password="secret-1")
LINK = User(name="gw-1.plant.example", password="secret/2")


def test_link_user_may_use_its_own_keys_and_no_namesake_by_pattern() -> None:
    definitions = cloud_definitions(admin=ADMIN, nodes={NODE: LINK})
    [permission] = [p for p in definitions["permissions"] if p["user"] == LINK.name]
    own, other = link_queue(NODE), link_queue(NodeName("gw-1xplant.example"))
    for right in ("configure", "write", "read"):
        assert re.search(permission[right], own)
        assert re.search(permission[right], f"{own} A")
        assert not re.search(permission[right], other)
        assert not re.search(permission[right], f"{own} A more")
    assert not re.search(permission["write"], topology.DOWN)
    assert not re.search(permission["read"], topology.UP)
    topics = {p["exchange"]: p for p in definitions["topic_permissions"]}
    assert re.search(topics[topology.UP]["write"], "node.gw-1_plant_example.state.pods.d.x")
    assert not re.search(topics[topology.UP]["write"], "node.gw-1_plant_example2.state.pods")
    assert not re.search(topics[topology.DOWN]["write"], "node.gw-1_plant_example.state")
    assert re.search(topics[topology.DOWN]["read"], "node.gw-1_plant_example.state.#")


def test_edge_links_never_delete_what_waits_and_are_named_after_the_node() -> None:
    definitions = edge_definitions(node=NODE, admin=ADMIN, link=LINK, cloud="cloud:5672")
    parameters = {p["name"]: p for p in definitions["parameters"]}
    upstream = parameters["cloud-gw-1_plant_example"]["value"]
    assert upstream["resource-cleanup-mode"] == "never"
    assert upstream["ack-mode"] == "on-confirm"
    assert upstream["uri"].startswith("amqp://gw-1.plant.example:secret%2F2@cloud:5672/%2f?")
    for message_class in ("state", "event", "request", "spans"):
        shovel = parameters[f"up.{message_class}"]["value"]
        assert shovel["ack-mode"] == "on-confirm"
        assert shovel["dest-exchange"] == topology.UP


def test_passwords_are_hashed_and_never_shown() -> None:
    definitions = cloud_definitions(admin=ADMIN, nodes={NODE: LINK})
    assert "secret" not in str(definitions)
    assert "secret" not in repr(ADMIN)
