"""Who containers run as and what is kept from them, on a real containerd."""

import asyncio
from pathlib import Path

import pytest

from tests.integration.edged.node import RealNode
from tests.integration.edged.test_volumes import output
from tests.unit.edged.kit import phase, waiting_reason

pytestmark = pytest.mark.containerd


CGROUPS = Path("/sys/fs/cgroup")
CPU = CGROUPS / "cpu" if (CGROUPS / "cpu").is_dir() else CGROUPS
MEMORY = CGROUPS / "memory" if (CGROUPS / "memory").is_dir() else CGROUPS


def namespace(pid: int, kind: str) -> str:
    return str(Path(f"/proc/{pid}/ns/{kind}").readlink())


def field(status: str, name: str) -> str:
    """Return a field of /proc/self/status."""
    [line] = [each for each in status.splitlines() if each.startswith(f"{name}:")]
    return line.partition(":")[2].strip()


async def test_process_is_confined_as_asked(node: RealNode) -> None:
    status = await output(
        node,
        "cat /proc/self/status",
        container={
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]},
                "seccompProfile": {"type": "RuntimeDefault"},
            }
        },
    )
    assert field(status, "NoNewPrivs") == "1"
    assert int(field(status, "CapBnd"), 16) == 1 << 10
    assert field(status, "Seccomp") == "2"


async def test_unconfined_process_has_no_filter(node: RealNode) -> None:
    status = await output(
        node,
        "cat /proc/self/status",
        container={"securityContext": {"seccompProfile": {"type": "Unconfined"}}},
    )
    assert field(status, "Seccomp") == "0"


async def test_profile_that_the_node_does_not_have_keeps_the_container_waiting(
    node: RealNode,
) -> None:
    asked = {"type": "Localhost", "localhostProfile": "fedge-none.json"}
    node.put("pods", node.pod(securityContext={"seccompProfile": asked}))
    await node.shows(lambda: waiting_reason(node.ears.newest()) == "CreateContainerError")
    waiting = node.ears.newest()["containerStatuses"][0]["state"]["waiting"]
    assert "fedge-none.json" in waiting["message"]
    assert await node.containers() == []


@pytest.mark.parametrize(("kind", "masks"), [("Default", "1"), ("Unmasked", "0")])
async def test_proc_is_masked_unless_asked(node: RealNode, kind: str, masks: str) -> None:
    said = await output(
        node,
        '/bin/busybox grep -c " /proc/sys " /proc/mounts',
        container={"securityContext": {"procMount": kind}},
    )
    assert said == masks


async def test_image_that_is_root_does_not_run_where_it_must_not(node: RealNode) -> None:
    node.put("pods", node.pod(securityContext={"runAsNonRoot": True}))
    await node.shows(lambda: waiting_reason(node.ears.newest()) == "CreateContainerConfigError")
    waiting = node.ears.newest()["containerStatuses"][0]["state"]["waiting"]
    assert "container has runAsNonRoot and image will run as root" in waiting["message"]
    assert await node.containers() == []


async def test_kernel_parameters_are_the_pods_own(node: RealNode) -> None:
    said = await output(
        node,
        "cat /proc/sys/net/ipv4/ip_unprivileged_port_start",
        securityContext={
            "sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "79"}]
        },
    )
    assert said == "79"


async def test_processes_are_shared_on_demand(node: RealNode) -> None:
    pod = node.pod(
        shareProcessNamespace=True,
        restartPolicy="Never",
        containers=[
            node.container("other"),
            node.container(script="/bin/busybox sleep 1; /bin/busybox ps"),
        ],
    )
    node.put("pods", pod)
    await node.shows(
        lambda: any(
            "terminated" in each["state"]
            for each in node.ears.newest().get("containerStatuses", [])
        )
    )
    assert "sleep 1000" in node.log()


async def test_limits_hold_for_the_container_and_its_pod(node: RealNode) -> None:
    limits = {"cpu": "500m", "memory": "32Mi"}
    main = node.container(resources={"limits": limits})
    node.put("pods", node.pod(containers=[main]))
    status = await node.runs()
    assert status["qosClass"] == "Guaranteed"
    [container] = await node.containers()
    name = "memory.limit_in_bytes" if MEMORY.name == "memory" else "memory.max"
    uid = container.labels["io.kubernetes.pod.uid"]
    pod_cgroup = MEMORY / node.server.cgroup_parent.strip("/") / f"pod{uid}"

    def read(folder: Path) -> str:
        return (folder / name).read_text().strip()

    assert await asyncio.to_thread(read, pod_cgroup) == str(32 * 1024**2)
    assert await asyncio.to_thread(read, pod_cgroup / container.id) == str(32 * 1024**2)


async def test_burstable_pods_count_as_they_asked_together(node: RealNode) -> None:
    main = node.container(resources={"requests": {"cpu": "700m"}})
    for name in ("a", "b"):
        node.put("pods", node.pod(name, containers=[main]))
    for name in ("a", "b"):
        assert (await node.runs(name))["qosClass"] == "Burstable"
    tier = CPU / node.server.cgroup_parent.strip("/") / "burstable"
    name = "cpu.shares" if CPU != CGROUPS else "cpu.weight"

    def weights() -> tuple[int, int]:
        pods = [int((each / name).read_text()) for each in tier.glob("pod*")]
        return int((tier / name).read_text()), sum(pods)

    together, summed = await asyncio.to_thread(weights)
    assert together == pytest.approx(summed, abs=2)
    assert summed >= (1432 if name == "cpu.shares" else 54)


async def test_container_that_takes_too_much_memory_is_killed(node: RealNode) -> None:
    # it lives on for a while: the runtime hears of the kill by another way than of the end
    main = node.container(
        script="/bin/busybox dd if=/dev/zero of=/dev/null bs=100M count=1; "
        "/bin/busybox sleep 2; exit 1",
        resources={"limits": {"memory": "16Mi"}},
    )
    node.put("pods", node.pod(restartPolicy="Never", containers=[main]))
    await node.shows(lambda: phase(node.ears.newest()) == "Failed")
    ended = node.ears.newest()["containerStatuses"][0]["state"]["terminated"]
    assert ended["reason"] == "OOMKilled"


@pytest.mark.parametrize("shared", [True, False])
async def test_namespaces_are_the_nodes_on_demand(node: RealNode, *, shared: bool) -> None:
    kinds = ("net", "pid", "ipc")
    said = await output(
        node,
        "; ".join(f"/bin/busybox readlink /proc/self/ns/{kind}" for kind in kinds),
        hostNetwork=shared,
        hostPID=shared,
        hostIPC=shared,
    )
    init = node.server.host.init
    assert init is not None
    # the host's processes are in a namespace of their own, which init's children enter
    nodes = [await asyncio.to_thread(namespace, init.pid, kind) for kind in kinds]
    assert [each == own for each, own in zip(said.splitlines(), nodes, strict=True)] == [
        shared
    ] * len(kinds)
