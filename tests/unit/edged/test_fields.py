"""Which settings may be changed from afar."""

import pytest

from fedge_edged.node_tasks.fields import FieldError, changeable, read_fields
from fedge_edged.settings import EdgedSettings
from fedge_meta.settings import MetaSettings
from fedge_service import EdgeSettings, TraceSettings
from fedge_twin.settings import TwinSettings

KUBELET = "modules.edged.tailoredKubeletConfig"


def test_every_setting_of_the_list_is_one_that_a_service_reads() -> None:
    known = {"FEDGE_LOG_LEVEL"}
    for settings in (EdgedSettings, MetaSettings, TwinSettings, EdgeSettings, TraceSettings):
        prefix = settings.model_config["env_prefix"]
        known |= {f"{prefix}{name.upper()}" for name in settings.model_fields}
    assert {variable for variable, _ in changeable()} - known == set()


def test_nothing_that_names_a_path_a_command_or_an_address_is_on_the_list() -> None:
    for variable, _ in changeable():
        assert not any(
            word in variable for word in ("PATH", "DIR", "SOCKET", "URL", "COMMAND", "KEY", "FILE_")
        ), variable


def test_kubeedges_paths_mean_our_variables() -> None:
    assert read_fields(
        {
            f"{KUBELET}.maxPods": "20",
            f"{KUBELET}.evictionPressureTransitionPeriod": "1m30s",
            f"{KUBELET}.systemReserved": "memory=200Mi,cpu=100m",
            f"{KUBELET}.clusterDNS": "10.0.0.10",
            "modules.edgeHub.heartbeat": "15",
            "FEDGE_LOG_LEVEL": "debug",
        }
    ) == {
        "FEDGE_EDGED_MAX_PODS": "20",
        "FEDGE_EDGED_EVICTION_TRANSITION_SECONDS": "90",
        "FEDGE_EDGED_SYSTEM_RESERVED": '{"memory": "200Mi", "cpu": "100m"}',
        "FEDGE_EDGED_CLUSTER_DNS": '["10.0.0.10"]',
        "FEDGE_EDGE_HEARTBEAT_SECONDS": "15",
        "FEDGE_LOG_LEVEL": "debug",
    }


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("modules.edged.hostnameOverride", "other", "join it anew"),
        ("modules.edgeHub.websocket.server", "10.0.0.1:10000", "fedge token create"),
        ("FEDGE_EDGED_CRI_SOCKET", "/tmp/x", "it is for the gateway"),
        ("FEDGE_META_BROKER_COMMAND", '["sh"]', "it is for the gateway"),
        ("modules.dbTest.enable", "true", "is no setting of an edge"),
        (f"{KUBELET}.shutdownGracePeriod", "soon; rm -rf /", "is no duration"),
        (f"{KUBELET}.systemReserved", "[1]", "is no mapping"),
        (f"{KUBELET}.systemReserved", "memory=much", "much"),
    ],
)
def test_others_are_refused_by_name_with_a_remedy(name: str, value: str, says: str) -> None:
    with pytest.raises(FieldError, match=says.replace("(", r"\(")) as caught:
        read_fields({name: value, "FEDGE_LOG_LEVEL": "info"})
    assert str(caught.value).startswith(f"{name}: ")


def test_two_names_of_one_setting_have_to_agree() -> None:
    with pytest.raises(FieldError, match="named twice"):
        read_fields({"FEDGE_EDGED_MAX_PODS": "5", f"{KUBELET}.maxPods": "6"})
