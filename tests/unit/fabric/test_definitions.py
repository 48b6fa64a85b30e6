"""What a broker is configured with at boot."""

import re

from hypothesis import given
from hypothesis import strategies as st

from fedge_enrolment.names import is_node_name
from fedge_fabric import encode_word, topology
from fedge_fabric.definitions import (
    User,
    cloud_definitions,
    edge_definitions,
    link_queue,
    node_definitions,
)
from fedge_objects import NodeName

NODE = NodeName("gw-1.plant.example")
ADMIN = User(name="fedge", password="secret-1")
LINK = User(name="gw-1.plant.example", password="secret/2")


def matches(pattern: str, text: str) -> bool:
    r"""Whether a pattern of RabbitMQ's matches; Python has ``\\Z`` for what PCRE calls ``\\z``."""
    assert pattern.endswith(r"\z")
    return re.search(pattern.removesuffix(r"\z") + r"\Z", text) is not None


def test_link_user_may_use_its_own_keys_and_no_namesake_by_pattern() -> None:
    definitions = cloud_definitions(admin=ADMIN, nodes={NODE: LINK})
    [permission] = [p for p in definitions["permissions"] if p["user"] == LINK.name]
    own, other = link_queue(NODE), link_queue(NodeName("gw-1xplant.example"))
    for right in ("configure", "write", "read"):
        assert matches(permission[right], own)
        assert matches(permission[right], f"{own} A")
        assert not matches(permission[right], other)
        assert not matches(permission[right], f"{own} A more")
    assert not matches(permission["write"], topology.DOWN)
    assert not matches(permission["read"], topology.UP)
    topics = {p["exchange"]: p for p in definitions["topic_permissions"]}
    assert matches(topics[topology.UP]["write"], "node.gw-1_plant_example.state.pods.d.x")
    assert not matches(topics[topology.UP]["write"], "node.gw-1_plant_example2.state.pods")
    assert not matches(topics[topology.DOWN]["write"], "node.gw-1_plant_example.state")
    assert matches(topics[topology.DOWN]["read"], "node.gw-1_plant_example.state.#")


_names = st.from_regex(r"[ab1]([ab1.x-]{0,5}[ab1])?", fullmatch=True).filter(is_node_name)


@given(_names, _names, st.sampled_from(["", " A", " B"]), st.text(max_size=3))
def test_no_node_has_a_right_to_what_is_another_nodes(
    name: str, other: str, end: str, noise: str
) -> None:
    user = f"urn:fedge:node:{name}:0"
    definitions = node_definitions({user: NodeName(name)})
    [permission] = definitions["permissions"]
    topics = {each["exchange"]: each for each in definitions["topic_permissions"]}
    own, others = link_queue(NodeName(name)) + end, link_queue(NodeName(other)) + end
    for right in ("configure", "write", "read"):
        assert matches(permission[right], own)
        assert matches(permission[right], others) is (name == other)
        assert matches(permission[right], own + noise) is (own + noise in {own, *_instances(own)})
    for exchange, right in ((topology.UP, "write"), (topology.DOWN, "read")):
        for tail in ("", ".state", ".#"):
            key = f"node.{encode_word(other)}{tail}"
            assert matches(topics[exchange][right], key) is (name == other)
    for exchange, right in ((topology.UP, "read"), (topology.DOWN, "write")):
        assert not matches(topics[exchange][right], f"node.{encode_word(name)}.state")


def _instances(own: str) -> set[str]:
    """Return the names that federation gives a link's queue in turn."""
    return {own, f"{own} A", f"{own} B"} if own[-2:] not in {" A", " B"} else {own}


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
