"""What the node says of itself."""

from pathlib import Path

import pytest

from fedge_cri import Image, RuntimeInfo
from fedge_edged.amounts import amounts_of, as_binary, as_quantities
from fedge_edged.capacity import allocatable, capacity
from fedge_edged.node_status import MAX_IMAGES, Seen, status_of
from fedge_edged.pressure import parse_thresholds
from fedge_objects import JsonObject
from tests.unit.edged.kit import EPOCH

GIB = 2**30
RUNTIME = RuntimeInfo(name="containerd", version="1.7.2")


def image(number: int, *, size: int, tagged: bool = True) -> Image:
    tags = [f"fedge.local/i{number}:1"] if tagged else []
    return Image(id=f"sha256:{number}", tags=tags, digests=[], size_bytes=size)


def seen(
    *,
    runtime: RuntimeInfo | None = RUNTIME,
    unmet: dict[str, str] | None = None,
    images: list[Image] | None = None,
    pressures: tuple[str, ...] = (),
    is_shutting_down: bool = False,
) -> Seen:
    return Seen(
        name="gw-1",
        address="192.0.2.1",
        capacity={"cpu": 2000, "memory": GIB, "pods": 110},
        allocatable={"cpu": 1900, "memory": GIB - 100 * 2**20, "pods": 110},
        runtime=runtime,
        unmet=unmet or {},
        images=images or [],
        pressures=pressures,
        is_shutting_down=is_shutting_down,
    )


def status(what: Seen, *, now: float = EPOCH, previous: JsonObject | None = None) -> JsonObject:
    return status_of(what, now=now, previous=previous)


def condition(told: JsonObject, kind: str) -> JsonObject:
    return next(each for each in told["conditions"] if each["type"] == kind)


def said(told: JsonObject, kind: str) -> tuple[str, str, str]:
    each = condition(told, kind)
    return each["status"], each["reason"], each["message"]


def test_a_node_that_is_well_says_so_in_the_kubelets_words() -> None:
    told = status(seen())
    assert said(told, "MemoryPressure") == (
        "False",
        "KubeletHasSufficientMemory",
        "kubelet has sufficient memory available",
    )
    assert said(told, "DiskPressure") == (
        "False",
        "KubeletHasNoDiskPressure",
        "kubelet has no disk pressure",
    )
    assert said(told, "PIDPressure") == (
        "False",
        "KubeletHasSufficientPID",
        "kubelet has sufficient PID available",
    )
    assert said(told, "Ready") == ("True", "KubeletReady", "kubelet is posting ready status")


def test_shortages_show() -> None:
    told = status(seen(pressures=("DiskPressure", "MemoryPressure")))
    assert said(told, "MemoryPressure")[:2] == ("True", "KubeletHasInsufficientMemory")
    assert said(told, "DiskPressure") == (
        "True",
        "KubeletHasDiskPressure",
        "kubelet has disk pressure",
    )
    assert said(told, "PIDPressure")[0] == "False"
    assert said(told, "Ready")[0] == "True"


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (seen(runtime=None), "container runtime is down"),
        (seen(unmet={"NetworkReady": "cni not set up"}), "NetworkReady is not met: cni not set up"),
        (seen(is_shutting_down=True), "node is shutting down"),
        (
            seen(runtime=None, is_shutting_down=True),
            "container runtime is down; node is shutting down",
        ),
    ],
)
def test_a_node_that_cannot_run_pods_is_not_ready(what: Seen, message: str) -> None:
    assert said(status(what), "Ready") == ("False", "KubeletNotReady", message)


def test_time_of_a_transition_stays_until_the_next() -> None:
    first = status(seen())
    second = status(seen(), now=EPOCH + 100, previous=first)
    third = status(seen(runtime=None), now=EPOCH + 200, previous=second)
    began = condition(first, "Ready")["lastTransitionTime"]
    assert condition(second, "Ready")["lastTransitionTime"] == began
    assert condition(third, "Ready")["lastTransitionTime"] > began
    assert condition(third, "MemoryPressure")["lastTransitionTime"] == began
    assert condition(second, "Ready")["lastHeartbeatTime"] > began


def test_the_largest_images_are_told() -> None:
    images = [image(number, size=number) for number in range(60)]
    nameless = image(99, size=10**9, tagged=False)
    told = status(seen(images=[*images, nameless]))["images"]
    assert len(told) == MAX_IMAGES
    assert told[0] == {"names": ["fedge.local/i59:1"], "sizeBytes": 59}
    assert min(each["sizeBytes"] for each in told) == 10


def test_amounts_are_written_as_quantities() -> None:
    told = status(seen())
    assert told["capacity"] == {"cpu": "2", "memory": "1Gi", "pods": "110"}
    assert told["allocatable"] == {"cpu": "1900m", "memory": "924Mi", "pods": "110"}
    assert told["addresses"][0] == {"type": "InternalIP", "address": "192.0.2.1"}
    assert told["nodeInfo"]["containerRuntimeVersion"] == "containerd://1.7.2"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (1023, "1023"), (1024, "1Ki"), (10 * 2**20, "10Mi"), (2**20 + 1024, "1025Ki")],
)
def test_numbers_in_binary_units(value: int, text: str) -> None:
    assert as_binary(value) == text


def test_capacity_is_what_the_machine_has(tmp_path: Path) -> None:
    pages = tmp_path / "pages" / "hugepages-2048kB"
    pages.mkdir(parents=True)
    (pages / "nr_hugepages").write_text("8\n")
    has = capacity(tmp_path, max_pods=20, huge_pages=tmp_path / "pages")
    assert has["cpu"] >= 1000
    assert has["memory"] > 2**20
    assert has["ephemeral-storage"] > 2**20
    assert has["pods"] == 20
    assert has["hugepages-2Mi"] == 16 * 2**20


def test_pods_do_not_get_what_is_reserved_or_has_to_stay_free() -> None:
    has = {"cpu": 4000, "memory": 8 * GIB, "ephemeral-storage": 100 * GIB, "pods": 110}
    given = allocatable(
        has,
        reserved=[amounts_of({"cpu": "500m", "memory": "1Gi"}), amounts_of({"cpu": "0.1"})],
        thresholds=parse_thresholds(
            {"memory.available": "512Mi", "nodefs.available": "10%", "imagefs.available": "15%"}
        ),
    )
    assert as_quantities(given) == {
        "cpu": "3400m",
        "memory": "6656Mi",
        "ephemeral-storage": "90Gi",
        "pods": "110",
    }


def test_huge_pages_are_no_ordinary_memory_and_nothing_is_less_than_none() -> None:
    has = {"cpu": 1000, "memory": GIB, "hugepages-2Mi": GIB // 4}
    given = allocatable(has, reserved=[{"cpu": 2000}], thresholds=())
    assert given == {"cpu": 0, "memory": GIB * 3 // 4, "hugepages-2Mi": GIB // 4}
