"""Limits, back-off, incarnations and log reading."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fedge_edged.incarnation import next_incarnation
from fedge_edged.limits import qos_class, resources_of
from fedge_edged.logs import LogError, LogOptions
from fedge_edged.restarts import Backoff, should_restart
from tests.unit.edged.kit import container_object, pod, read_log

GIB = 1024**3


def resources(requests: dict[str, str] | None = None, **limits: str) -> dict[str, Any]:
    return {"resources": {"requests": requests or {}, "limits": limits}}


class TestQualityOfService:
    """https://kubernetes.io/docs/concepts/workloads/pods/pod-qos/."""

    @pytest.mark.parametrize(
        ("wanted", "containers"),
        [
            ("BestEffort", [{}]),
            ("BestEffort", [{}, {}]),
            ("Guaranteed", [resources(cpu="1", memory="1Gi")]),
            ("Guaranteed", [resources({"cpu": "1000m", "memory": "1Gi"}, cpu="1", memory="1Gi")]),
            ("Burstable", [resources(memory="1Gi")]),
            ("Burstable", [resources({"cpu": "1m"})]),
            ("Burstable", [resources({"cpu": "0.5"}, cpu="1", memory="1Gi")]),
            ("Burstable", [resources(cpu="1", memory="1Gi"), {}]),
            ("BestEffort", [resources({"ephemeral-storage": "1Gi"})]),
        ],
    )
    def test_class_follows_from_requests_and_limits(
        self, wanted: str, containers: list[dict[str, Any]]
    ) -> None:
        made = [container_object(f"c{i}", **each) for i, each in enumerate(containers)]
        assert qos_class(pod(containers=made)) == wanted

    def test_init_container_counts(self) -> None:
        full = container_object(**resources(cpu="1", memory="1Gi"))
        made = pod(containers=[full], initContainers=[container_object("init")])
        assert qos_class(made) == "Burstable"


class TestLimits:
    """Requests and limits as the kernel's numbers."""

    @pytest.mark.parametrize(
        ("given", "shares", "quota", "memory", "oom"),
        [
            ({}, 2, 0, 0, 1000),
            (resources(cpu="500m", memory="64Mi"), 512, 50_000, 64 * 1024**2, -997),
            (resources({"cpu": "2", "memory": "1Gi"}), 2048, 0, 0, 750),
            (resources({"cpu": "100m"}), 102, 0, 0, 999),
            (resources({"cpu": "1m"}, cpu="5m"), 2, 1000, 0, 999),
            (resources({"memory": "4Gi"}), 2, 0, 0, 3),
            (resources({"cpu": "1000"}), 262_144, 0, 0, 999),
        ],
    )
    def test_limits_are_turned_into_the_kernels_numbers(
        self, given: dict[str, Any], shares: int, quota: int, memory: int, oom: int
    ) -> None:
        made = pod(containers=[container_object(**given)])
        found = resources_of(made, made.spec.containers[0], memory_bytes=4 * GIB)
        assert (found.cpu_shares, found.cpu_quota, found.memory_limit_bytes) == (
            shares,
            quota,
            memory,
        )
        assert found.oom_score_adj == oom
        assert found.cpu_period == (100_000 if quota else 0)


class TestBackoff:
    """https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#restart-policy."""

    def test_waits_double_from_ten_seconds_to_five_minutes(self) -> None:
        backoff, now, waits = Backoff(), 0.0, []
        for _ in range(9):
            wait = backoff.remaining("c", failed_at=now, now=now)
            waits.append(wait)
            now += wait
            backoff.retried("c", now)
        assert waits == [0, 10, 20, 40, 80, 160, 300, 300, 300]

    def test_wait_runs_from_the_failure(self) -> None:
        backoff = Backoff()
        backoff.retried("c", 0)
        assert backoff.remaining("c", failed_at=5, now=5) == 10
        assert backoff.remaining("c", failed_at=5, now=12) == 3
        assert backoff.remaining("c", failed_at=5, now=15) == 0
        assert backoff.seconds("c") == 10

    @pytest.mark.parametrize("restarts", [1, 3, 8])
    def test_ten_good_minutes_begin_anew(self, restarts: int) -> None:
        backoff = Backoff()
        for _ in range(restarts):
            backoff.retried("c", 0)
        failed = 601.0
        assert backoff.remaining("c", failed_at=failed, now=failed) == 0
        backoff.retried("c", failed)
        assert backoff.seconds("c") == 10

    def test_names_wait_apart_and_can_be_forgotten(self) -> None:
        backoff = Backoff()
        backoff.retried("a", 0)
        assert backoff.remaining("b", failed_at=0, now=0) == 0
        backoff.forget("a")
        assert backoff.remaining("a", failed_at=0, now=0) == 0

    @pytest.mark.parametrize(
        ("policy", "code", "again"),
        [
            ("Always", 0, True),
            ("Always", 1, True),
            ("OnFailure", 0, False),
            ("OnFailure", 1, True),
            ("Never", 0, False),
            ("Never", 1, False),
        ],
    )
    def test_policy_says_whether_to_restart(self, policy: str, code: int, again: bool) -> None:
        assert should_restart(policy, code) is again


class TestIncarnation:
    """A number that rises with each start."""

    def test_it_rises_from_start_to_start(self, tmp_path: Path) -> None:
        path = tmp_path / "not-there-yet" / "number"
        numbers = [next_incarnation(path) for _ in range(3)]
        assert numbers == sorted(set(numbers))

    @pytest.mark.parametrize("damage", [b"", b"garbage", b"\xff\xfe", b"7\x00"])
    def test_damaged_file_stops_nothing(self, tmp_path: Path, damage: bytes) -> None:
        path = tmp_path / "number"
        next_incarnation(path)
        path.write_bytes(damage)
        first = next_incarnation(path)
        assert next_incarnation(path) > first

    def test_it_does_not_fall_when_the_file_is_lost(self, tmp_path: Path) -> None:
        path = tmp_path / "number"
        before = [next_incarnation(path) for _ in range(3)][-1]
        path.unlink()
        assert next_incarnation(path) > before


LOG = """\
2026-01-01T00:00:01.100000000Z stdout F one
2026-01-01T00:00:02.200000000Z stderr P tw
2026-01-01T00:00:02.300000000Z stderr F o
2026-01-01T00:00:03.400000000Z stdout F 
2026-01-01T00:00:04.500000000Z stdout F four: ä b  c
"""  # noqa: W291 - an empty line of a log


class TestLogs:
    """Logs as the runtime writes them."""

    @pytest.fixture
    def log(self, tmp_path: Path) -> Path:
        path = tmp_path / "0.log"
        path.write_text(LOG)
        return path

    def test_parts_are_joined_and_whole_lines_end(self, log: Path) -> None:
        assert read_log(log, LogOptions()) == "one\ntwo\n\nfour: ä b  c\n"

    def test_last_lines_can_be_had(self, log: Path) -> None:
        assert read_log(log, LogOptions(tail_lines=2)) == "\nfour: ä b  c\n"
        assert read_log(log, LogOptions(tail_lines=0)) == ""
        assert read_log(log, LogOptions(tail_lines=99)) == read_log(log, LogOptions())

    def test_lines_since_a_time_can_be_had(self, log: Path) -> None:
        since = datetime(2026, 1, 1, 0, 0, 3, 400_000, tzinfo=UTC)
        assert read_log(log, LogOptions(since=since)) == "\nfour: ä b  c\n"

    def test_times_of_another_zone_are_understood(self, tmp_path: Path) -> None:
        path = tmp_path / "0.log"
        path.write_text("2026-01-01T02:00:01.123456789+02:00 stdout F x\n")
        hour = datetime(2026, 1, 1, tzinfo=UTC)
        assert read_log(path, LogOptions(since=hour)) == "x\n"
        assert read_log(path, LogOptions(since=hour + timedelta(hours=1))) == ""

    def test_time_of_a_whole_second_is_understood(self, tmp_path: Path) -> None:
        path = tmp_path / "0.log"
        path.write_text("2026-01-01T00:00:01Z stdout F x\n")
        assert read_log(path, LogOptions(since=datetime(2026, 1, 1, tzinfo=UTC))) == "x\n"

    def test_times_can_be_shown(self, log: Path) -> None:
        shown = read_log(log, LogOptions(timestamps=True)).splitlines()
        assert shown[0] == "2026-01-01T00:00:01.100000000Z one"

    def test_answer_is_cut_at_the_limit_and_never_within_a_character(self, log: Path) -> None:
        assert read_log(log, LogOptions(limit_bytes=5)) == "one\nt"
        whole = b"one\ntwo\n\nfour: "
        assert read_log(log, LogOptions(limit_bytes=len(whole) + 1)) == whole.decode()

    def test_log_with_bytes_that_are_no_text_can_be_read(self, tmp_path: Path) -> None:
        path = tmp_path / "0.log"
        path.write_bytes(b"2026-01-01T00:00:01Z stdout F \xff\xfe\n")
        assert read_log(path, LogOptions()) == "��\n"

    def test_log_that_is_cut_mid_line_can_be_read(self, tmp_path: Path) -> None:
        path = tmp_path / "0.log"
        path.write_text(LOG + "2026-01-01T00:")
        assert read_log(path, LogOptions()).startswith("one\ntwo\n")

    def test_missing_log_is_said_to_be_missing(self, tmp_path: Path) -> None:
        with pytest.raises(LogError, match="has not started yet") as raised:
            read_log(tmp_path / "none", LogOptions())
        assert raised.value.code == 404

    def test_options_are_read_from_the_url(self) -> None:
        now = datetime(2026, 1, 1, 1, tzinfo=UTC)
        options = LogOptions.parse(
            {"tailLines": "5", "sinceSeconds": "60", "timestamps": "true", "previous": "true"}, now
        )
        assert options == LogOptions(
            tail_lines=5, since=now - timedelta(seconds=60), timestamps=True, previous=True
        )
        since = LogOptions.parse({"sinceTime": "2026-01-01T00:00:00Z"}, now).since
        assert since == datetime(2026, 1, 1, tzinfo=UTC)

    @pytest.mark.parametrize(
        "query",
        [
            {"tailLines": "-1"},
            {"tailLines": "x"},
            {"sinceSeconds": "soon"},
            {"sinceTime": "yesterday"},
            {"limitBytes": "much"},
            {"limitBytes": "0"},
        ],
    )
    def test_wrong_options_are_refused(self, query: dict[str, str]) -> None:
        with pytest.raises(LogError) as raised:
            LogOptions.parse(query, datetime.now(UTC))
        assert raised.value.code == 400

    def test_time_without_a_zone_is_refused(self) -> None:
        with pytest.raises(LogError) as raised:
            LogOptions.parse({"sinceTime": "2026-01-01T00:00:04"}, datetime.now(UTC))
        assert raised.value.code == 400
