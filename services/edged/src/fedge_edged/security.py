"""Who the processes of a pod are and what they may do.

https://kubernetes.io/docs/tasks/configure-pod-container/security-context/
"""

from pathlib import Path

from fedge_cri import Profile, ProfileKind, Security
from fedge_edged.errors import ConfigError
from fedge_edged.pods import Container, Pod, SecurityProfile
from fedge_edged.verdicts import Verdict

SAFE_SYSCTLS = frozenset(
    {
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ping_group_range",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_notsent_lowat",
        "net.ipv4.tcp_rmem",
        "net.ipv4.tcp_slow_start_after_idle",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.tcp_wmem",
    }
)
"""https://kubernetes.io/docs/tasks/administer-cluster/sysctl-cluster/#safe-and-unsafe-sysctls"""

_APPARMOR = Path("/sys/module/apparmor/parameters/enabled")


def has_apparmor(switch: Path = _APPARMOR) -> bool:
    """Whether the kernel confines processes by AppArmor."""
    try:
        return switch.read_text().strip() == "Y"
    except FileNotFoundError:
        return False


def container_security(pod: Pod, container: Container, *, seccomp_dir: Path) -> Security:
    """Return what the runtime is asked for; what the container leaves open, its pod says.

    Raises:
        ConfigError: what is asked for contradicts itself.
    """
    own, shared = container.security_context, pod.spec.security_context
    escalates = own.allow_privilege_escalation
    if escalates is False and own.privileged:
        raise ConfigError(
            f'container "{container.name}": allowPrivilegeEscalation cannot be false '
            "if privileged is true"
        )
    seccomp = own.seccomp_profile or shared.seccomp_profile
    return Security(
        privileged=own.privileged,
        readonly_rootfs=own.read_only_root_filesystem,
        no_new_privileges=escalates is False,
        run_as_user=shared.run_as_user if own.run_as_user is None else own.run_as_user,
        run_as_group=shared.run_as_group if own.run_as_group is None else own.run_as_group,
        supplemental_groups=supplemental_groups(pod),
        add_capabilities=own.capabilities.add,
        drop_capabilities=own.capabilities.drop,
        unmasked_proc=own.proc_mount == "Unmasked",
        seccomp=None if own.privileged else seccomp_profile(seccomp, seccomp_dir),
        apparmor=apparmor_profile(own.app_armor_profile or shared.app_armor_profile),
    )


def supplemental_groups(pod: Pod) -> list[int]:
    """Return the groups that each process of the pod is in beside its own."""
    context = pod.spec.security_context
    groups = list(context.supplemental_groups)
    if context.fs_group is not None and context.fs_group not in groups:
        groups.append(context.fs_group)
    return groups


def seccomp_profile(asked: SecurityProfile | None, folder: Path) -> Profile | None:
    """Return a seccomp profile; one of the node's own lies below ``folder``.

    https://kubernetes.io/docs/tutorials/security/seccomp/

    Raises:
        ConfigError: the path leaves the folder.
    """
    if asked is None:
        return None
    if asked.type != ProfileKind.LOCALHOST.value:
        return Profile(kind=ProfileKind(asked.type))
    path = Path(asked.localhost_profile)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise ConfigError(f'seccomp profile "{path}" is not a path below {folder}')
    return Profile(kind=ProfileKind.LOCALHOST, localhost_ref=str(folder / path))


def apparmor_profile(asked: SecurityProfile | None) -> Profile | None:
    """Return an AppArmor profile; one of the node's own is called by its name.

    https://kubernetes.io/docs/tutorials/security/apparmor/
    """
    if asked is None:
        return None
    return Profile(kind=ProfileKind(asked.type), localhost_ref=asked.localhost_profile)


def refusal(pod: Pod, *, apparmor: bool) -> Verdict | None:
    """Return why the node does not take the pod, if it asks for what the node must not give.

    Args:
        pod: the pod.
        apparmor: whether the kernel has AppArmor.
    """
    verdict = _unsafe_sysctl(pod) or _strict_groups(pod)
    return verdict or (None if apparmor else _apparmor_asked(pod))


def _strict_groups(pod: Pod) -> Verdict | None:
    """Refuse to keep a process out of its image's groups: the runtime is not known to do so.

    https://kubernetes.io/docs/tasks/configure-pod-container/security-context/#supplementalgroupspolicy
    """
    if pod.spec.security_context.supplemental_groups_policy != "Strict":
        return None
    return Verdict(
        reason="SupplementalGroupsPolicyNotSupported",
        message="SupplementalGroupsPolicy=Strict is not supported in this node",
    )


def _unsafe_sysctl(pod: Pod) -> Verdict | None:
    for each in pod.spec.security_context.sysctls:
        name = each.get("name", "").replace("/", ".")
        if name not in SAFE_SYSCTLS:
            return Verdict(
                reason="SysctlForbidden", message=f'forbidden sysctl: "{name}" not allowlisted'
            )
        host = pod.spec.host_ipc if name.startswith("kernel.") else pod.spec.host_network
        if host:
            kind = "ipc" if name.startswith("kernel.") else "net"
            return Verdict(
                reason="SysctlForbidden",
                message=f'forbidden sysctl: "{name}" not allowed with host {kind} enabled',
            )
    return None


def _apparmor_asked(pod: Pod) -> Verdict | None:
    asked = [pod.spec.security_context.app_armor_profile]
    asked += [each.security_context.app_armor_profile for each in pod.all_containers]
    if any(each is not None and each.type != ProfileKind.UNCONFINED.value for each in asked):
        return Verdict(
            reason="AppArmor",
            message="Cannot enforce AppArmor: AppArmor is not enabled on the host",
        )
    return None
