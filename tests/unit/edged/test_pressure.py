"""Whether the node runs short of anything."""

from pathlib import Path

import pytest

from fedge_edged.disk_usage import disk_usage
from fedge_edged.pressure import (
    DEFAULT_HARD,
    Observation,
    Pressure,
    Signal,
    Threshold,
    memory,
    observe,
    parse_thresholds,
    shortages,
)

MIB = 2**20
MEMINFO = """\
MemTotal:        1000 kB
MemFree:          100 kB
Buffers:           50 kB
Cached:           400 kB
SwapCached:         0 kB
Inactive(file):   300 kB
AnonPages:        350 kB
"""


def low_memory(available: int) -> dict[Signal, Observation]:
    return {Signal.MEMORY: Observation(available, 1024 * MIB)}


class TestThresholds:
    """Settings."""

    def test_the_kubelets_defaults(self) -> None:
        assert parse_thresholds(DEFAULT_HARD) == (
            Threshold(Signal.MEMORY, amount=100 * MIB),
            Threshold(Signal.NODEFS, share=0.1),
            Threshold(Signal.NODEFS_INODES, share=0.05),
            Threshold(Signal.IMAGEFS, share=0.15),
        )

    @pytest.mark.parametrize("text", ["0", "0%", "100%"])
    def test_none(self, text: str) -> None:
        assert parse_thresholds({"memory.available": text}) == ()

    @pytest.mark.parametrize(
        ("name", "text", "words"),
        [
            ("memory.free", "1Mi", "'memory.free' is no eviction signal: use one of memory.avail"),
            ("memory.available", "much", "no quantity"),
            ("memory.available", "101%", "from 0% to 100%"),
        ],
    )
    def test_nonsense_is_refused(self, name: str, text: str, words: str) -> None:
        with pytest.raises(ValueError, match=words):
            parse_thresholds({name: text})


class TestObservations:
    """What is left."""

    def test_memory_is_reckoned_as_the_kubelet_does(self) -> None:
        working_set = 350 + 400 + 50 - 300
        assert memory(MEMINFO) == Observation((1000 - working_set) * 1024, 1000 * 1024)

    def test_this_machine(self, tmp_path: Path) -> None:
        seen = observe(tmp_path, tmp_path)
        assert seen.keys() >= {Signal.MEMORY, Signal.NODEFS, Signal.IMAGEFS, Signal.PIDS}
        for each in seen.values():
            assert 0 <= each.available <= each.capacity

    def test_what_cannot_be_seen_is_left_out(self, tmp_path: Path) -> None:
        assert Signal.IMAGEFS not in observe(tmp_path, None)
        assert Signal.IMAGEFS not in observe(tmp_path, tmp_path / "elsewhere")

    def test_disk_usage_counts_what_lies_below(self, tmp_path: Path) -> None:
        (tmp_path / "folder").mkdir()
        (tmp_path / "folder" / "file").write_bytes(b"x" * 100_000)
        (tmp_path / "link").symlink_to("/usr")
        used = disk_usage(tmp_path)
        assert 100_000 <= used.size_bytes < 200_000
        assert used.inodes == 3
        assert disk_usage(tmp_path / "nothing").inodes == 0


class TestShortages:
    """Too little of something."""

    def test_memory_comes_first(self) -> None:
        thresholds = parse_thresholds({"nodefs.available": "10%", "memory.available": "100Mi"})
        seen = {**low_memory(50 * MIB), Signal.NODEFS: Observation(9, 100)}
        found = shortages(thresholds, seen)
        assert [each.signal for each in found] == [Signal.MEMORY, Signal.NODEFS]
        assert (found[0].threshold, found[0].available) == (100 * MIB, 50 * MIB)
        assert (found[1].threshold, found[1].available) == (10, 9)

    def test_just_enough_is_enough(self) -> None:
        thresholds = parse_thresholds({"memory.available": "100Mi"})
        assert shortages(thresholds, low_memory(100 * MIB)) == ()

    def test_what_was_not_seen_is_not_short(self) -> None:
        assert shortages(parse_thresholds({"pid.available": "10%"}), {}) == ()

    @pytest.mark.parametrize(
        ("signal", "condition", "resource"),
        [
            (Signal.MEMORY, "MemoryPressure", "memory"),
            (Signal.NODEFS, "DiskPressure", "ephemeral-storage"),
            (Signal.IMAGEFS, "DiskPressure", "ephemeral-storage"),
            (Signal.NODEFS_INODES, "DiskPressure", "inodes"),
            (Signal.IMAGEFS_INODES, "DiskPressure", "inodes"),
            (Signal.PIDS, "PIDPressure", "pids"),
        ],
    )
    def test_signals_stand_for_conditions(
        self, signal: Signal, condition: str, resource: str
    ) -> None:
        assert (signal.condition, signal.resource) == (condition, resource)


class TestConditions:
    """https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/."""

    @pytest.fixture
    def pressure(self) -> Pressure:
        return Pressure(parse_thresholds(DEFAULT_HARD), transition_seconds=300)

    def test_a_condition_stays_for_a_while(self, pressure: Pressure) -> None:
        assert not pressure.update(low_memory(500 * MIB), 0)
        assert pressure.update(low_memory(50 * MIB), 10)
        assert list(pressure.conditions) == ["MemoryPressure"]
        assert not pressure.update(low_memory(500 * MIB), 300)
        assert list(pressure.conditions) == ["MemoryPressure"]
        assert not pressure.shortages
        assert pressure.update(low_memory(500 * MIB), 310)
        assert not pressure.conditions

    def test_a_new_shortage_prolongs_it(self, pressure: Pressure) -> None:
        pressure.update(low_memory(0), 0)
        pressure.update(low_memory(0), 200)
        pressure.update(low_memory(500 * MIB), 450)
        assert list(pressure.conditions) == ["MemoryPressure"]

    def test_without_a_period_it_ends_at_once(self) -> None:
        pressure = Pressure(parse_thresholds(DEFAULT_HARD), transition_seconds=0)
        pressure.update(low_memory(0), 0)
        assert list(pressure.conditions) == ["MemoryPressure"]
        pressure.update(low_memory(500 * MIB), 10)
        assert not pressure.conditions
