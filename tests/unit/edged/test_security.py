"""Who the processes of pods are, and what is kept from them."""

from pathlib import Path
from typing import Any

import pytest

from fedge_cri import Profile, ProfileKind
from fedge_edged.errors import ConfigError
from fedge_edged.security import container_security, has_apparmor, refusal
from tests.unit.edged.kit import container_object, pod

PROFILES = Path("/profiles")


def security(own: dict[str, Any] | None = None, **shared: Any) -> Any:
    made = pod(securityContext=shared, containers=[container_object(securityContext=own or {})])
    return container_security(made, made.spec.containers[0], seccomp_dir=PROFILES)


def test_container_says_more_than_its_pod() -> None:
    got = security({"runAsUser": 0}, runAsUser=7, runAsGroup=8, fsGroup=9, supplementalGroups=[10])
    assert (got.run_as_user, got.run_as_group) == (0, 8)
    assert got.supplemental_groups == [10, 9]


def test_escalation_is_off_only_where_it_is_forbidden() -> None:
    assert security({"allowPrivilegeEscalation": False}).no_new_privileges
    assert not security({}).no_new_privileges
    with pytest.raises(ConfigError, match="allowPrivilegeEscalation"):
        security({"allowPrivilegeEscalation": False, "privileged": True})


@pytest.mark.parametrize(
    ("asked", "profile"),
    [
        ({"type": "RuntimeDefault"}, Profile(kind=ProfileKind.RUNTIME_DEFAULT)),
        ({"type": "Unconfined"}, Profile(kind=ProfileKind.UNCONFINED)),
        (
            {"type": "Localhost", "localhostProfile": "strict/net.json"},
            Profile(kind=ProfileKind.LOCALHOST, localhost_ref="/profiles/strict/net.json"),
        ),
    ],
)
def test_seccomp_profile_of_the_pod_is_the_containers(
    asked: dict[str, Any], profile: Profile
) -> None:
    assert security(seccompProfile=asked).seccomp == profile
    assert security({"seccompProfile": asked}).seccomp == profile
    assert security({"privileged": True}, seccompProfile=asked).seccomp is None


@pytest.mark.parametrize("path", ["/etc/passwd", "../up.json", ""])
def test_seccomp_profile_lies_in_its_folder(path: str) -> None:
    with pytest.raises(ConfigError, match="below /profiles"):
        security(seccompProfile={"type": "Localhost", "localhostProfile": path})


def test_proc_is_unmasked_on_demand() -> None:
    assert security({"procMount": "Unmasked"}).unmasked_proc
    assert not security({"procMount": "Default"}).unmasked_proc


@pytest.mark.parametrize(
    ("name", "host", "refused"),
    [
        ("net.ipv4.tcp_syncookies", {}, False),
        ("net/ipv4/tcp_syncookies", {}, False),
        ("net.ipv4.tcp_rmem", {}, False),
        ("net.core.somaxconn", {}, True),
        ("kernel.msgmax", {}, True),
        ("net.ipv4.tcp_syncookies", {"hostNetwork": True}, True),
        ("kernel.shm_rmid_forced", {"hostIPC": True}, True),
        ("kernel.shm_rmid_forced", {"hostNetwork": True}, False),
    ],
)
def test_unsafe_sysctls_are_refused(name: str, host: dict[str, Any], *, refused: bool) -> None:
    made = pod(securityContext={"sysctls": [{"name": name, "value": "1"}]}, **host)
    verdict = refusal(made, apparmor=True)
    assert (verdict is not None) is refused
    if verdict is not None:
        assert verdict.reason == "SysctlForbidden"
        assert name in verdict.message


def test_strict_groups_are_not_promised() -> None:
    verdict = refusal(pod(securityContext={"supplementalGroupsPolicy": "Strict"}), apparmor=True)
    assert verdict is not None
    assert verdict.reason == "SupplementalGroupsPolicyNotSupported"
    merged = pod(securityContext={"supplementalGroupsPolicy": "Merge"})
    assert refusal(merged, apparmor=True) is None


def test_apparmor_is_not_promised_where_there_is_none(tmp_path: Path) -> None:
    made = pod(securityContext={"appArmorProfile": {"type": "RuntimeDefault"}})
    assert refusal(made, apparmor=True) is None
    verdict = refusal(made, apparmor=False)
    assert verdict is not None
    assert verdict.reason == "AppArmor"
    unconfined = pod(securityContext={"appArmorProfile": {"type": "Unconfined"}})
    assert refusal(unconfined, apparmor=False) is None
    assert not has_apparmor(tmp_path / "none")
    (tmp_path / "enabled").write_text("Y\n")
    assert has_apparmor(tmp_path / "enabled")
