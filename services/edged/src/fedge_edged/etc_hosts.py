"""The pod's /etc/hosts.

https://kubernetes.io/docs/tasks/network/customize-hosts-file-for-pods/

It lies in memory: it is made anew with each sandbox, whose address it bears.
"""

from collections.abc import Sequence
from pathlib import Path

from fedge_edged.dns import Names, short_hostname
from fedge_edged.pods import Pod

CONTAINER_PATH = "/etc/hosts"
_NODES = Path("/etc/hosts")
_LOOPBACK = """127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
fe00::0\tip6-mcastprefix
fe00::1\tip6-allnodes
fe00::2\tip6-allrouters
"""


def hosts_text(pod: Pod, ips: Sequence[str], names: Names, *, nodes: Path = _NODES) -> str:
    """Return the file's content: the pod's own name, or the node's file, and the pod's aliases.

    Args:
        pod: the pod.
        ips: its addresses, of IPv4 and IPv6.
        names: how it is called.
        nodes: the node's file, which a pod on the node's network sees.
    """
    if pod.spec.host_network:
        text = nodes.read_text() if nodes.exists() else _LOOPBACK
    else:
        own = [each for each in (names.full_hostname(pod), short_hostname(pod)) if each]
        text = "# Written by edged: entries of the pod itself are lost.\n" + _LOOPBACK
        for ip in ips:
            text += "\t".join([ip, *own]) + "\n"
    for alias in pod.spec.host_aliases:
        text += "\t".join([alias.ip, *alias.hostnames]) + "\n"
    return text


def write_hosts(path: Path, text: str) -> None:
    """Write the file in place, so that containers which have it mounted see it change."""
    if path.exists() and path.read_text() == text:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o644)
