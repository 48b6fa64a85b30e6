"""Which version runs: tried out a few times, taken back with the broker's data, or over."""

from pathlib import Path

import pytest

from fedge_boot import versions
from fedge_boot.settings import Settings
from fedge_slots import Installed, Slots

OWN = "own-image"


class Gateway:
    """A volume, and what is said while it boots."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings.of({"FEDGE_EDGE_DATA_DIR": str(folder)})
        self.slots = Slots(folder)
        self.said: list[str] = []
        self.broker = folder / "rabbitmq" / "mnesia"
        self.broker.mkdir(parents=True)
        (self.broker / "queue").write_text("three events")

    def install(self, name: str, broker: str = "") -> None:
        with self.slots.installing(name) as part:
            assert part is not None
            program = part.root / "usr/bin/python3"
            program.parent.mkdir(parents=True)
            program.touch(mode=0o755)
            if broker:
                (part.root / f"usr/lib/rabbitmq/lib/rabbitmq_server-{broker}").mkdir(parents=True)
            part.described = Installed(name=name, version=name, broker=broker)

    def try_out(self, name: str) -> None:
        self.slots.try_out(name, id="j", seconds=60, base=OWN)

    def boots(self, own: str = OWN) -> str:
        return versions.choose(self.slots, self.settings, own, say=self.said.append)

    @property
    def reason(self) -> str:
        outcome = self.slots.state().outcome
        return outcome.reason if outcome else ""


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    return Gateway(tmp_path)


def test_without_another_version_the_own_image_runs(gateway: Gateway) -> None:
    assert gateway.boots() == ""
    assert gateway.said == []


def test_version_that_is_kept_runs_at_each_boot(gateway: Gateway) -> None:
    gateway.install("v2")
    gateway.try_out("v2")
    assert gateway.boots() == "v2"
    gateway.slots.keep()
    assert [gateway.boots() for _ in range(4)] == ["v2"] * 4


def test_version_that_ends_again_and_again_is_taken_back(gateway: Gateway) -> None:
    gateway.install("v2")
    gateway.try_out("v2")
    assert [gateway.boots() for _ in range(4)] == ["v2", "v2", "", ""]
    assert gateway.reason == "it ended 2 times before it was ready"
    assert gateway.said[-1] == f"version v2 is taken back: {gateway.reason}"


def test_version_whose_time_is_up_is_taken_back_once(gateway: Gateway) -> None:
    gateway.install("v2")
    gateway.try_out("v2")
    assert gateway.boots() == "v2"
    assert versions.judge(gateway.slots, gateway.settings, say=gateway.said.append)
    assert not versions.judge(gateway.slots, gateway.settings, say=gateway.said.append)
    assert gateway.boots() == ""
    assert gateway.reason == "it did not work as the one before within 60 s"


def test_version_that_is_kept_is_not_judged(gateway: Gateway) -> None:
    gateway.install("v2")
    gateway.try_out("v2")
    gateway.boots()
    gateway.slots.keep()
    assert not versions.judge(gateway.slots, gateway.settings, say=gateway.said.append)
    assert gateway.boots() == "v2"


def test_another_broker_gets_the_data_and_going_back_brings_what_was(gateway: Gateway) -> None:
    gateway.install("v2", broker="4.0.5")
    gateway.try_out("v2")
    gateway.boots()
    gateway.slots.keep()
    gateway.boots()
    gateway.install("v3", broker="4.1.0")
    gateway.try_out("v3")
    assert gateway.boots() == "v3"
    trial = gateway.slots.state().trial
    assert trial is not None
    assert trial.broker_kept
    (gateway.broker / "queue").write_text("changed for good by 4.1.0")
    # a second start does not take the changed data for those of before
    assert gateway.boots() == "v3"
    versions.judge(gateway.slots, gateway.settings, say=gateway.said.append)
    assert gateway.boots() == "v2"
    assert (gateway.broker / "queue").read_text() == "three events"
    assert sorted(each.name for each in gateway.broker.parent.iterdir()) == ["mnesia"]


def test_data_that_lies_aside_goes_once_the_other_broker_is_kept(gateway: Gateway) -> None:
    gateway.install("v2", broker="4.1.0")
    gateway.try_out("v2")
    gateway.boots()
    assert sorted(each.name for each in gateway.broker.parent.iterdir()) == [
        "mnesia",
        "mnesia.before",
    ]
    (gateway.broker / "queue").write_text("newer")
    gateway.slots.keep()
    assert gateway.boots() == "v2"
    assert sorted(each.name for each in gateway.broker.parent.iterdir()) == ["mnesia"]
    assert (gateway.broker / "queue").read_text() == "newer"


def test_same_broker_goes_on_with_its_data_and_nothing_is_copied(gateway: Gateway) -> None:
    for name in ("v2", "v3"):
        gateway.install(name, broker="4.0.5")
        gateway.try_out(name)
        gateway.boots()
        gateway.slots.keep()
        gateway.boots()
    gateway.install("v4", broker="4.0.5")
    gateway.try_out("v4")
    gateway.boots()
    assert sorted(each.name for each in gateway.broker.parent.iterdir()) == ["mnesia"]
    (gateway.broker / "queue").write_text("three events, and one that v4 accepted")
    versions.judge(gateway.slots, gateway.settings, say=gateway.said.append)
    gateway.boots()
    assert (gateway.broker / "queue").read_text().endswith("v4 accepted")


def test_no_room_for_the_brokers_data_keeps_the_version_before(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway.install("v2", broker="4.1.0")
    gateway.try_out("v2")
    monkeypatch.setattr(versions, "ROOM_BYTES", 2**62)
    assert gateway.boots() == ""
    assert "no room to keep the data" in gateway.reason
    assert (gateway.broker / "queue").read_text() == "three events"


def test_whoever_starts_the_container_from_another_image_has_chosen_that(gateway: Gateway) -> None:
    gateway.install("v2")
    gateway.try_out("v2")
    gateway.boots()
    gateway.slots.keep()
    assert gateway.boots("another") == ""
    assert "started from another image" in gateway.said[-1]
    assert gateway.boots("another") == ""
    # and back: what was in the volume is over
    assert gateway.boots() == ""


def test_another_image_during_a_trial_ends_it(gateway: Gateway) -> None:
    gateway.install("v2", broker="4.1.0")
    gateway.try_out("v2")
    gateway.boots()
    (gateway.broker / "queue").write_text("changed")
    assert gateway.boots("another") == ""
    assert "another image meanwhile" in gateway.reason
    assert (gateway.broker / "queue").read_text() == "three events"


def test_slot_that_is_gone_is_not_entered(gateway: Gateway) -> None:
    gateway.install("v2")
    gateway.try_out("v2")
    gateway.boots()
    gateway.slots.keep()
    (gateway.slots.root("v2") / "usr/bin/python3").unlink()
    assert gateway.boots() == ""
    assert gateway.said[-1].startswith("version v2 is damaged")
