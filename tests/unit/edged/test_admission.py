"""Which pods the node takes, and with which words it refuses the others."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from fedge_edged.admission import NodeView, Refusal, admit
from fedge_edged.amounts import pod_requests
from fedge_edged.importance import SOURCE, is_critical
from fedge_edged.pods import Pod
from fedge_objects import JsonObject
from tests.unit.edged.kit import container_object, deleted, phase, pod, pod_object
from tests.unit.edged.node import Node

NODE = NodeView(
    name="gw-1",
    labels={"kubernetes.io/os": "linux", "zone": "plant", "disk": "7"},
    allocatable={"cpu": 1000, "memory": 2**30, "ephemeral-storage": 2**30, "pods": 3},
)


def asking(name: str = "a", **requests: str) -> Pod:
    return pod(name, containers=[container_object(resources={"requests": requests})])


def listening(name: str, **port: Any) -> Pod:
    return pod(name, containers=[container_object(ports=[{"containerPort": 80, **port}])])


def on(node: NodeView, new: Pod, *active: Pod) -> Refusal | None:
    return admit(new, node, active)


def affine(*requirements: dict[str, Any], fields: bool = False) -> Pod:
    part = "matchFields" if fields else "matchExpressions"
    return pod(
        affinity={
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [{part: list(requirements)}]
                }
            }
        }
    )


def expression(key: str, operator: str, *values: str) -> dict[str, Any]:
    return {"key": key, "operator": operator, "values": list(values)}


class TestAmounts:
    """What pods ask for."""

    def test_init_containers_count_where_they_ask_for_more(self) -> None:
        def ask(name: str, cpu: str, **fields: Any) -> JsonObject:
            return container_object(name, resources={"requests": {"cpu": cpu}}, **fields)

        asked = pod(
            initContainers=[
                ask("first", "300m"),
                ask("sidecar", "100m", restartPolicy="Always"),
                ask("second", "500m"),
            ],
            containers=[ask("main", "200m"), ask("other", "0.25")],
            overhead={"cpu": "10m", "memory": "1Mi"},
        )
        assert pod_requests(asked) == {"cpu": 610, "memory": 2**20}

    def test_sidecars_run_beside_the_containers(self) -> None:
        sidecar = container_object(
            "s", restartPolicy="Always", resources={"requests": {"cpu": "100m"}}
        )
        main = container_object(resources={"requests": {"cpu": "200m"}})
        assert pod_requests(pod(initContainers=[sidecar], containers=[main])) == {"cpu": 300}

    def test_a_limit_is_a_request_where_there_is_none(self) -> None:
        limited = container_object(
            resources={"limits": {"cpu": "1", "memory": "1Ki"}, "requests": {"cpu": "100m"}}
        )
        assert pod_requests(pod(containers=[limited])) == {"cpu": 100, "memory": 1024}


class TestEnough:
    """Resources."""

    def test_there_is_not_enough_left(self) -> None:
        refusal = on(NODE, asking(cpu="500m"), asking("b", cpu="600m"))
        assert refusal == Refusal(
            "OutOfcpu",
            "Node didn't have enough resource: cpu, requested: 500, used: 600, capacity: 1000",
        )
        assert refusal.verdict().message == f"Pod was rejected: {refusal.message}"
        assert refusal.verdict().phase == "Failed"

    @pytest.mark.parametrize(
        ("requests", "reason"),
        [
            ({"memory": "2Gi"}, "OutOfmemory"),
            ({"ephemeral-storage": "2Gi"}, "OutOfephemeral-storage"),
            ({"hugepages-2Mi": "2Mi"}, "OutOfhugepages-2Mi"),
            ({"memory": "2Gi", "cpu": "2"}, "OutOfcpu"),
        ],
    )
    def test_each_resource_has_its_reason(self, requests: dict[str, str], reason: str) -> None:
        refusal = on(NODE, asking(**requests))
        assert refusal is not None
        assert refusal.reason == reason

    def test_what_fits_exactly_is_taken(self) -> None:
        assert on(NODE, asking(cpu="400m", memory="1Gi"), asking("b", cpu="600m")) is None

    def test_a_pod_that_asks_for_nothing_is_taken_by_a_full_node(self) -> None:
        assert on(NODE, pod(), asking("b", cpu="2", memory="9Gi")) is None

    def test_there_are_too_many_pods(self) -> None:
        refusal = on(NODE, pod(), pod("b"), pod("c"), pod("d"))
        assert refusal == Refusal(
            "OutOfpods",
            "Node didn't have enough resource: pods, requested: 1, used: 3, capacity: 3",
        )

    def test_resources_of_the_cluster_are_not_the_nodes(self) -> None:
        assert on(NODE, asking(**{"example.com/licence": "1"})) is None


class TestAffinity:
    """https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/."""

    def test_node_selector_has_to_match(self) -> None:
        assert on(NODE, pod(nodeSelector={"zone": "plant"})) is None
        refusal = on(NODE, pod(nodeSelector={"zone": "plant", "gpu": "yes"}))
        assert refusal == Refusal(
            "NodeAffinity",
            "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector",
        )

    @pytest.mark.parametrize(
        ("requirement", "holds"),
        [
            (expression("zone", "In", "plant", "yard"), True),
            (expression("zone", "In", "yard"), False),
            (expression("none", "In", "yard"), False),
            (expression("zone", "NotIn", "plant"), False),
            (expression("none", "NotIn", "plant"), True),
            (expression("zone", "Exists"), True),
            (expression("none", "Exists"), False),
            (expression("none", "DoesNotExist"), True),
            (expression("disk", "Gt", "6"), True),
            (expression("disk", "Gt", "7"), False),
            (expression("disk", "Lt", "10"), True),
            (expression("zone", "Gt", "6"), False),
            (expression("none", "Lt", "6"), False),
            (expression("zone", "Likes", "plant"), False),
        ],
    )
    def test_required_affinity(self, requirement: dict[str, Any], holds: bool) -> None:
        assert (on(NODE, affine(requirement)) is None) is holds

    def test_fields_and_several_terms(self) -> None:
        assert on(NODE, affine(expression("metadata.name", "In", "gw-1"), fields=True)) is None
        assert on(NODE, affine(expression("metadata.name", "In", "gw-2"), fields=True)) is not None
        both = affine(expression("zone", "Exists"), expression("none", "Exists"))
        assert on(NODE, both) is not None
        assert on(NODE, affine()) is not None, "an empty term matches nothing"

    def test_preferred_affinity_is_the_schedulers(self) -> None:
        preferred = {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1}]}
        assert on(NODE, pod(affinity={"nodeAffinity": preferred})) is None

    def test_pod_of_another_node(self) -> None:
        refusal = on(NODE, pod(nodeName="gw-2"))
        assert refusal is not None
        assert refusal.reason == "NodeName"


class TestSystems:
    """Pods for other operating systems."""

    def test_label(self) -> None:
        labels = {"labels": {"kubernetes.io/os": "windows"}}
        refusal = on(NODE, pod(meta=labels))
        assert refusal == Refusal(
            "PodOSSelectorNodeLabelDoesNotMatch",
            "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label",
        )

    def test_field(self) -> None:
        assert on(NODE, pod(os={"name": "linux"})) is None
        refusal = on(NODE, pod(os={"name": "windows"}))
        assert refusal == Refusal(
            "PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS"
        )


class TestPorts:
    """Ports of the node."""

    @pytest.mark.parametrize(
        ("one", "other", "fits"),
        [
            ({"hostPort": 80}, {"hostPort": 80}, False),
            ({"hostPort": 80}, {"hostPort": 81}, True),
            ({"hostPort": 80, "protocol": "UDP"}, {"hostPort": 80}, True),
            ({"hostPort": 80, "hostIP": "10.0.0.1"}, {"hostPort": 80, "hostIP": "10.0.0.2"}, True),
            ({"hostPort": 80, "hostIP": "10.0.0.1"}, {"hostPort": 80}, False),
            ({}, {}, True),
        ],
    )
    def test_one_port_is_for_one_pod(
        self,
        one: dict[str, Any],
        other: dict[str, Any],
        fits: bool,
    ) -> None:
        refusal = on(NODE, listening("a", **one), listening("b", **other))
        assert (refusal is None) is fits
        if refusal is not None:
            assert refusal == Refusal(
                "NodePorts",
                "Predicate NodePorts failed: node(s) didn't have free ports for the requested "
                "pod ports",
            )


class TestTaints:
    """https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/."""

    TAINTED = replace(NODE, taints=[{"key": "broken", "value": "yes", "effect": "NoExecute"}])

    def test_who_does_not_bear_it_is_refused(self) -> None:
        assert on(self.TAINTED, pod()) == Refusal(
            "TaintToleration",
            "Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate",
        )

    @pytest.mark.parametrize(
        ("toleration", "bears"),
        [
            ({"key": "broken", "operator": "Equal", "value": "yes"}, True),
            ({"key": "broken", "value": "yes", "effect": "NoExecute"}, True),
            ({"key": "broken", "operator": "Exists"}, True),
            ({"operator": "Exists"}, True),
            ({"key": "broken", "value": "no"}, False),
            ({"key": "broken", "operator": "Exists", "effect": "NoSchedule"}, False),
            ({"key": "other", "operator": "Exists"}, False),
        ],
    )
    def test_tolerations(self, toleration: dict[str, Any], bears: bool) -> None:
        assert (on(self.TAINTED, pod(tolerations=[toleration])) is None) is bears

    def test_other_effects_are_the_schedulers(self) -> None:
        tainted = replace(NODE, taints=[{"key": "new", "effect": "NoSchedule"}])
        assert on(tainted, pod()) is None

    def test_pods_of_the_node_itself_are_not_driven_away(self) -> None:
        assert on(self.TAINTED, pod(meta={"annotations": {SOURCE: "file"}})) is None


class TestPressure:
    """https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/."""

    LOW_MEMORY = replace(NODE, pressures=["MemoryPressure"])
    LOW_BOTH = replace(NODE, pressures=["DiskPressure", "MemoryPressure"])

    def test_a_pod_that_asked_for_nothing_is_refused(self) -> None:
        assert on(self.LOW_MEMORY, pod()) == Refusal(
            "Evicted", "The node had condition: [MemoryPressure]. "
        )

    def test_a_pod_that_asked_for_memory_may_use_it(self) -> None:
        assert on(self.LOW_MEMORY, asking(memory="1Mi")) is None

    def test_a_pod_that_bears_it_is_taken(self) -> None:
        key = "node.kubernetes.io/memory-pressure"
        assert on(self.LOW_MEMORY, pod(tolerations=[{"key": key, "operator": "Exists"}])) is None

    def test_a_full_disk_is_for_nobody(self) -> None:
        assert on(self.LOW_BOTH, asking(memory="1Mi")) == Refusal(
            "Evicted", "The node had condition: [DiskPressure MemoryPressure]. "
        )

    @pytest.mark.parametrize(
        "critical",
        [
            pod(priority=2_000_000_000),
            pod(priorityClassName="system-node-critical"),
            pod(meta={"annotations": {SOURCE: "file"}}),
        ],
    )
    def test_critical_pods_are_taken(self, critical: Pod) -> None:
        assert is_critical(critical)
        assert on(self.LOW_BOTH, critical) is None


class TestSecurity:
    """What the node must not give."""

    def test_unsafe_kernel_parameters(self) -> None:
        sysctls = [{"name": "kernel.msgmax", "value": "65536"}]
        assert on(NODE, pod(securityContext={"sysctls": sysctls})) == Refusal(
            "SysctlForbidden", 'forbidden sysctl: "kernel.msgmax" not allowlisted'
        )

    def test_apparmor_where_the_kernel_has_none(self) -> None:
        asking = pod(securityContext={"appArmorProfile": {"type": "RuntimeDefault"}})
        refusal = on(NODE, asking)
        assert refusal is not None
        assert refusal.reason == "AppArmor"
        assert on(replace(NODE, has_apparmor=True), asking) is None


def test_nothing_is_taken_while_the_node_shuts_down() -> None:
    assert on(replace(NODE, is_shutting_down=True), pod()) == Refusal(
        "NodeShutdown", "Pod was rejected as the node is shutting down."
    )


def small(name: str, cpu: str = "600m", **spec: Any) -> JsonObject:
    container = container_object(resources={"requests": {"cpu": cpu}})
    return pod_object(name, containers=[container], **spec)


async def settled() -> None:
    """Let time pass in which nothing is to happen."""
    await asyncio.sleep(30)


@pytest.mark.looptime
class TestOnTheNode:
    """Pods that come and go on a node of one processor."""

    @pytest.fixture(autouse=True)
    def one_processor(self, node: Node) -> None:
        node.view = NODE

    async def test_a_refused_pod_has_failed_and_never_runs(self, node: Node) -> None:
        node.put("pods", small("a"))
        await node.shows(lambda: phase(node.ears.newest("a")) == "Running")
        node.put("pods", small("b"))
        await node.shows(lambda: phase(node.ears.newest("b")) == "Failed")
        told = node.ears.newest("b")
        assert told["reason"] == "OutOfcpu"
        assert told["message"] == (
            "Pod was rejected: Node didn't have enough resource: cpu, requested: 600, used: 600, "
            "capacity: 1000"
        )
        assert "OutOfcpu" in node.ears.reasons("b")
        assert "FieldNotHonored" not in node.ears.reasons("b")
        await settled()
        assert len(node.runtime.running("main")) == 1

    async def test_a_refused_pod_stays_so_when_there_is_place(self, node: Node) -> None:
        node.put("pods", small("a"))
        node.put("pods", small("b"))
        await node.shows(lambda: phase(node.ears.newest("b")) == "Failed")
        node.put("pods", deleted(small("a")))
        await node.shows(lambda: node.ears.finished("a"))
        node.take("pods", "a", None)
        await node.restart()
        await node.shows(lambda: phase(node.ears.newest("b")) == "Failed")
        node.put("pods", small("c"))
        await node.shows(lambda: phase(node.ears.newest("c")) == "Running")

    async def test_what_runs_is_not_asked_again(self, node: Node) -> None:
        node.put("pods", small("a", nodeSelector={"zone": "plant"}))
        await node.shows(lambda: phase(node.ears.newest("a")) == "Running")
        node.view = replace(NODE, labels={}, pressures=["DiskPressure"], allocatable={"pods": 0})
        await node.restart()
        await settled()
        assert phase(node.ears.newest("a")) == "Running"
        assert len(node.runtime.running("main")) == 1

    async def test_a_restart_does_not_give_the_place_of_one_pod_to_another(
        self, node: Node
    ) -> None:
        node.put("pods", small("z"))
        await node.shows(lambda: phase(node.ears.newest("z")) == "Running")
        await node.stop()
        node.store = {}
        node.put("pods", small("a"))
        node.put("pods", small("z"))
        await node.start()
        await node.shows(lambda: phase(node.ears.newest("a")) == "Failed")
        await settled()
        assert phase(node.ears.newest("z")) == "Running"

    async def test_after_a_power_cut_all_come_back(self, node: Node) -> None:
        for name in ("a", "b", "c"):
            node.put("pods", small(name, cpu="300m"))
        await node.shows(lambda: len(node.runtime.running("main")) == 3)
        await settled()
        node.view = replace(NODE, pressures=["MemoryPressure"], allocatable={})
        await node.reboot()
        await settled()
        assert len(node.runtime.running("main")) == 3

    async def test_ended_pods_make_place(self, node: Node) -> None:
        node.put("pods", small("a", restartPolicy="Never"))
        await node.shows(lambda: phase(node.ears.newest("a")) == "Running")
        node.runtime.exit_container(node.runtime.running("main")[0])
        await node.shows(lambda: phase(node.ears.newest("a")) == "Succeeded")
        node.put("pods", small("b"))
        await node.shows(lambda: phase(node.ears.newest("b")) == "Running")

    async def test_a_pod_that_asks_for_nonsense_is_refused(self, node: Node) -> None:
        node.put("pods", small("a", cpu="much"))
        await node.shows(lambda: phase(node.ears.newest("a")) == "Failed")
        assert node.ears.newest("a")["reason"] == "UnexpectedAdmissionError"
