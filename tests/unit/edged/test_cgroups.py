"""Cgroups of pods, on folders that look like the kernel's."""

from pathlib import Path
from typing import Any

import pytest

from fedge_edged.cgroups import Cgroups
from fedge_edged.limits import hugepage_size, pod_limits, pod_total
from tests.unit.edged.kit import container_object, pod


def with_resources(**resources: Any) -> list[dict[str, Any]]:
    return [container_object(resources=resources)]


BOTH = {"cpu": "500m", "memory": "64Mi"}


@pytest.mark.parametrize(
    ("containers", "path"),
    [
        (with_resources(limits=BOTH), "/pods/poduid-a"),
        (with_resources(requests=BOTH), "/pods/burstable/poduid-a"),
        ([container_object()], "/pods/besteffort/poduid-a"),
    ],
)
def test_quality_of_service_says_where_a_pod_lies(
    containers: list[dict[str, Any]], path: str, tmp_path: Path
) -> None:
    assert Cgroups("/pods", root=tmp_path).path_of(pod(containers=containers)) == path
    assert Cgroups("", root=tmp_path).path_of(pod(containers=containers)) == ""


def test_version_1_bears_the_limits_of_the_pod(tmp_path: Path) -> None:
    for controller in ("cpu", "memory"):
        (tmp_path / controller).mkdir()
    cgroups = Cgroups("/pods", root=tmp_path)
    cgroups.prepare(pod(containers=with_resources(limits=BOTH)))
    cpu, memory = tmp_path / "cpu/pods/poduid-a", tmp_path / "memory/pods/poduid-a"
    assert (cpu / "cpu.shares").read_text() == "512"
    assert (cpu / "cpu.cfs_quota_us").read_text() == "50000"
    assert (memory / "memory.limit_in_bytes").read_text() == str(64 * 1024**2)


def test_version_2_bears_the_limits_of_the_pod(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids")
    cgroups = Cgroups("/pods", root=tmp_path)
    cgroups.prepare(pod(containers=with_resources(limits=BOTH)))
    folder = tmp_path / "pods/poduid-a"
    assert (folder / "cpu.weight").read_text() == "20"
    assert (folder / "cpu.max").read_text() == "50000 100000"
    assert (folder / "memory.max").read_text() == str(64 * 1024**2)
    assert (tmp_path / "pods/cgroup.subtree_control").exists()


def test_pods_that_asked_for_nothing_count_least(tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu/pods/besteffort").mkdir(parents=True)
    (tmp_path / "cpu/pods/besteffort/cpu.shares").write_text("1024")
    Cgroups("/pods", root=tmp_path).prepare(pod())
    assert (tmp_path / "cpu/pods/besteffort/cpu.shares").read_text() == "2"


@pytest.mark.parametrize("version", [1, 2])
def test_burstable_pods_together_count_as_they_asked_together(version: int, tmp_path: Path) -> None:
    if version == 2:
        (tmp_path / "cgroup.controllers").write_text("cpu")
    root = tmp_path if version == 2 else tmp_path / "cpu"
    tier = root / "pods/burstable"
    tier.mkdir(parents=True)
    weight = tier / ("cpu.weight" if version == 2 else "cpu.shares")
    weight.write_text("100")
    cgroups = Cgroups("/pods", root=tmp_path)
    for name, cpu in (("a", "2"), ("b", "1500m")):
        cgroups.prepare(pod(name, containers=with_resources(requests={"cpu": cpu})))
    expected = (1 + (3584 - 2) * 9999 // 262142) if version == 2 else 3584
    assert int(weight.read_text()) == pytest.approx(expected, abs=1)
    for file in (tier / "poduid-a").iterdir():  # the kernel's files go with their folder
        file.unlink()
    Cgroups("/pods", root=tmp_path).remove("uid-a")
    expected = (1 + (1536 - 2) * 9999 // 262142) if version == 2 else 1536
    assert int(weight.read_text()) == pytest.approx(expected, abs=1)


def test_cgroups_of_a_pod_that_is_gone_go(tmp_path: Path) -> None:
    for place in ("cpu/pods/burstable", "memory/pods"):
        (tmp_path / place / "poduid-a").mkdir(parents=True)
    Cgroups("/pods", root=tmp_path).remove("uid-a")
    assert not list(tmp_path.glob("**/poduid-a"))


def test_init_containers_and_sidecars_count_as_they_run() -> None:
    def asks(name: str, cpu: str, **more: Any) -> dict[str, Any]:
        return container_object(name, resources={"requests": {"cpu": cpu}}, **more)

    made = pod(
        initContainers=[
            asks("first", "3"),
            asks("proxy", "1", restartPolicy="Always"),
            asks("second", "4"),
        ],
        containers=[asks("main", "2")],
        overhead={"cpu": "250m"},
    )
    assert pod_total(made, "cpu") == pytest.approx(5.25)  # the second beside the proxy
    assert pod_limits(made).cpu_quota == 0


@pytest.mark.parametrize(("resource", "size"), [("hugepages-2Mi", "2MB"), ("hugepages-1Gi", "1GB")])
def test_huge_pages_are_called_as_the_kernel_does(resource: str, size: str) -> None:
    assert hugepage_size(resource) == size
