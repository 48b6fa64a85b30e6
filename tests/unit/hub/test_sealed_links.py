"""What goes down the links: what is confidential only sealed, to the node that it is for."""

from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from fedge_fabric import Envelope, change_of
from fedge_fabric.fabric import Fabric
from fedge_hub.links import FabricDownlink
from fedge_hub.ports import NoSealingKeyError
from fedge_objects import Change, NodeName, ObjectKey, Version
from fedge_sealing import CONFIDENTIAL, SealingKey, is_sealed

WORDS = "open sesame"
KEYS = {NodeName("gw-1"): SealingKey(bytes(range(32))), NodeName("gw-2"): SealingKey(bytes(32))}


@dataclass
class Line:
    """Takes what is published."""

    published: list[Envelope] = field(default_factory=list)

    async def publish(self, envelope: Envelope, **_: Any) -> None:
        self.published.append(envelope)


class Keys:
    """The nodes' public keys."""

    async def sealing_key(self, node: NodeName) -> bytes:
        return KEYS[node].public if node in KEYS else b""


def change(resource: str) -> Change:
    obj = {"metadata": {"name": "a", "namespace": "d"}, "data": {"word": WORDS}}
    return Change(key=ObjectKey(resource, "d", "a"), version=Version(2, 1), object=obj)


@pytest.mark.parametrize("resource", sorted(CONFIDENTIAL))
@pytest.mark.parametrize("node", KEYS)
async def test_what_is_confidential_is_sealed_to_its_node(resource: str, node: NodeName) -> None:
    line = Line()
    await FabricDownlink(cast("Fabric", line), Keys()).send(node, change(resource))
    [envelope] = line.published
    body, _ = envelope.body()
    assert WORDS.encode() not in body
    told = change_of(envelope)
    assert told.version == change(resource).version
    assert is_sealed(told.object)
    assert WORDS.encode() in KEYS[node].unseal(told.object, str(told.key))


async def test_what_is_not_confidential_or_gone_goes_as_it_is() -> None:
    line = Line()
    down = FabricDownlink(cast("Fabric", line), Keys())
    gone = Change(key=ObjectKey("secrets", "d", "a"), version=Version(2, 2), object=None)
    for each in (change("pods"), gone):
        await down.send(NodeName("gw-1"), each)
        assert change_of(line.published[-1]) == each


async def test_nothing_confidential_goes_to_a_node_without_a_key() -> None:
    line = Line()
    down = FabricDownlink(cast("Fabric", line), Keys())
    with pytest.raises(NoSealingKeyError, match=r"'gw-9' has no key .* let it join again"):
        await down.send(NodeName("gw-9"), change("secrets"))
    assert line.published == []
