"""Bad messages of devices: answered or passed over, and the good ones beside them are taken."""

from collections.abc import Mapping
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from fedge_objects import ObjectKey
from fedge_twin.device import DEVICES
from fedge_twin.payloads import MAX_PAYLOAD_BYTES
from fedge_twin.topics import What, Word, filters
from tests.unit.bad_input.mutations import VALUES, bounded, changed, paths
from tests.unit.bad_input.subjects import NODE, SUBJECTS, Twin, declare_device, update

_DEVICE = "$hw/events/device/default/ac/"
_MEMBERSHIP = f"$hw/events/node/{NODE}/membership/get"
_SIDE = {"value": "21", "metadata": {"timestamp": 1}}
PAYLOADS: Mapping[str, Any] = {
    _DEVICE + What.GET: {"event_id": "1", "timestamp": 1},
    _DEVICE + What.STATE: {"event_id": "1", "timestamp": 1, "state": "online"},
    _DEVICE + What.UPDATE: {
        "event_id": "1",
        "timestamp": 1,
        "twin": {
            "temperature": {"actual": _SIDE, "optional": True, "metadata": {"type": "int"}},
            "name": {"expected": _SIDE},
        },
    },
    _MEMBERSHIP: {"event_id": "1", "timestamp": 1},
}
_TOPICS = [
    *PAYLOADS,
    "$hw/events/device/default//twin/update",
    "$hw/events/device///twin/get",
    "$hw/events/device/default/ac/twin/delete",
    "$hw/events/device/other/../ac/twin/get",
    "$hw/events/device/default/" + "a/" * 200 + "twin/get",
    "$hw/events/node//membership/get",
    "alien",
    "",
]


@st.composite
def words(draw: st.DrawFn) -> Word:
    topic = draw(st.sampled_from(_TOPICS))
    data = PAYLOADS[draw(st.sampled_from(sorted(PAYLOADS)))]
    for _ in range(draw(st.integers(0, 2))):
        value = draw(st.sampled_from(VALUES) | st.text(max_size=20) | st.integers())
        data = changed(data, draw(st.sampled_from(paths(data))), value)
    payload = msgspec.json.encode(data)
    cut = draw(st.integers(0, len(payload)))
    other = draw(
        st.sampled_from(
            [
                payload,
                payload,
                payload,
                payload[:cut],
                b"",
                b"\xff\xfe\0",
                b"[" * 2000,
                b'{"twin":' + b"[" * 900 + b"]" * 900 + b"}",
                b'{"twin":{"temperature":{"actual":{"value":' + b"[" * 900 + b"]" * 900 + b"}}}}",
                b'{"twin":{"name":{"actual":{"value":' + b"9" * 4000 + b"}}}}",
                b'{"twin":{"name":{"actual":{"value":1e999}}}}',
                b" " * (MAX_PAYLOAD_BYTES + 1),
            ]
        )
    )
    return Word(topic, other)


def test_every_topic_is_tried() -> None:
    tried = {topic.replace("default/ac", "+/+") for topic in PAYLOADS}
    assert tried == {each for each in filters(NODE) if "+/+/+" not in each}  # names with dots


@bounded
@given(st.lists(words(), min_size=1, max_size=20), st.integers(0, 20))
async def test_bad_words_of_devices_keep_no_good_one_from_its_effect(
    bad: list[Word], place: int
) -> None:
    async with SUBJECTS["twin"]() as subject:
        assert isinstance(subject, Twin)
        await declare_device(subject, "ac")
        await declare_device(subject, "good")
        good = update("good", b'{"twin":{"temperature":{"actual":{"value":"21"}}}}')
        await subject.twins.hear([*bad[:place], good, *bad[place:]])
        told = subject.twins.status(ObjectKey(DEVICES, "default", "good"), 1)
        assert told is not None
        [shown] = told["status"]["twins"]
        assert shown["reported"]["value"] == "21"
        await subject.twins.hear(bad)
        subject.twins.differences()
        assert {key.name for key in subject.twins.keys} == {"ac", "good"}
        await subject.check()
