"""A pod's names: its host name and what its resolver asks.

https://kubernetes.io/docs/concepts/services-networking/dns-pod-service/
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from fedge_cri import Dns
from fedge_edged.errors import ConfigError
from fedge_edged.pods import DnsConfig, Pod

log = structlog.stdlib.get_logger("fedge.edged")

MOST_SERVERS = 3
MOST_SEARCHES = 32
MOST_SEARCH_CHARACTERS = 2048
MOST_HOSTNAME_CHARACTERS = 63
MOST_FQDN_CHARACTERS = 64
RESOLVER = Path("/etc/resolv.conf")
_BEHIND_STUB = Path("/run/systemd/resolve/resolv.conf")
"""What systemd's resolver itself asks; pods cannot reach it at the node's loopback address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """What names the node gives to its pods.

    Attributes:
        cluster_dns: addresses of the cluster's DNS, if there is one at this edge.
        cluster_domain: the domain of services.
        resolver: the node's resolv.conf.
    """

    cluster_dns: Sequence[str] = ()
    cluster_domain: str = "cluster.local"
    resolver: Path = RESOLVER

    def hostname(self, pod: Pod) -> str:
        """Return the host name inside the pod; empty if it is the node's.

        Raises:
            ConfigError: the full name is too long to be a host name.
        """
        if pod.spec.host_network:
            return ""
        short = short_hostname(pod)
        if not pod.spec.set_hostname_as_fqdn:
            return short
        full = self.full_hostname(pod) or short
        if len(full) > MOST_FQDN_CHARACTERS:
            raise ConfigError(
                f"Failed to construct FQDN from pod hostname and cluster domain, FQDN {full} is "
                f"too long ({MOST_FQDN_CHARACTERS} characters is the max, {len(full)} characters "
                "requested)"
            )
        return full

    def full_hostname(self, pod: Pod) -> str:
        """Return the pod's fully qualified name; empty if it has none.

        https://kubernetes.io/docs/concepts/workloads/pods/pod-hostname/
        """
        if not pod.spec.subdomain or pod.spec.hostname_override:
            return ""
        parts = (short_hostname(pod), pod.spec.subdomain, pod.metadata.namespace, "svc")
        return ".".join((*parts, self.cluster_domain))

    def dns(self, pod: Pod) -> Dns | None:
        """Return what the pod's resolv.conf says; None for the node's.

        Where there is no cluster DNS, who asks for it has the node's resolver, as the kubelet does.
        """
        policy = pod.spec.dns_policy
        uses_cluster = policy == "ClusterFirstWithHostNet" or (
            policy == "ClusterFirst" and not pod.spec.host_network
        )
        if policy == "None":
            base = Dns()
        elif uses_cluster and self.cluster_dns:
            namespace, domain = pod.metadata.namespace, self.cluster_domain
            own = [f"{namespace}.svc.{domain}", f"svc.{domain}", domain]
            base = Dns(
                servers=list(self.cluster_dns),
                searches=own + list(self._of_node().searches),
                options=["ndots:5"],
            )
        elif pod.spec.dns_config is None and self._path() == RESOLVER:
            return None
        else:
            base = self._of_node()
        return _within_limits(_merged(base, pod), pod)

    def _path(self) -> Path:
        return _BEHIND_STUB if self.resolver == RESOLVER and _is_stub() else self.resolver

    def _of_node(self) -> Dns:
        servers: list[str] = []
        searches: list[str] = []
        options: list[str] = []
        for line in self._path().read_text().splitlines():
            words = line.split("#")[0].split(";")[0].split()
            match words:
                case ["nameserver", address, *_]:
                    servers.append(address)
                case ["search" | "domain", *names]:
                    searches = names
                case ["options", *named]:
                    options += named
        return Dns(servers=servers, searches=searches, options=options)


def short_hostname(pod: Pod) -> str:
    """Return the first label of the pod's host name, or the name that replaces it."""
    if pod.spec.hostname_override:
        return pod.spec.hostname_override
    return (pod.spec.hostname or pod.metadata.name)[:MOST_HOSTNAME_CHARACTERS].rstrip("-.")


def _is_stub() -> bool:
    try:
        asks = [line.split() for line in RESOLVER.read_text().splitlines()]
    except FileNotFoundError:
        return False
    servers = [words[1] for words in asks if len(words) > 1 and words[0] == "nameserver"]
    return servers == ["127.0.0.53"] and _BEHIND_STUB.exists()


def _merged(base: Dns, pod: Pod) -> Dns:
    """Add the pod's own settings; its options replace those of the same name."""
    config = pod.spec.dns_config or DnsConfig()
    options = {each.partition(":")[0]: each for each in base.options}
    for each in config.options:
        options[each.name] = each.name if each.value is None else f"{each.name}:{each.value}"
    return Dns(
        servers=list(dict.fromkeys([*base.servers, *config.nameservers])),
        searches=list(dict.fromkeys([*base.searches, *config.searches])),
        options=list(options.values()),
    )


def _within_limits(dns: Dns, pod: Pod) -> Dns:
    searches: list[str] = []
    for each in dns.searches[:MOST_SEARCHES]:
        if len(" ".join([*searches, each])) > MOST_SEARCH_CHARACTERS:
            break
        searches.append(each)
    kept = Dns(servers=dns.servers[:MOST_SERVERS], searches=searches, options=dns.options)
    if len(kept.servers) < len(dns.servers) or len(searches) < len(dns.searches):
        log.warning("dns_limits_exceeded", pod=str(pod.key), kept=list(kept.servers))
    return kept
