"""Host names, resolvers and /etc/hosts of pods."""

from pathlib import Path
from typing import Any

import pytest

from fedge_edged.dns import Names
from fedge_edged.errors import ConfigError
from fedge_edged.etc_hosts import hosts_text, write_hosts
from tests.unit.edged.kit import pod


@pytest.fixture
def names(tmp_path: Path) -> Names:
    resolver = tmp_path / "resolv.conf"
    resolver.write_text(
        "# of the node\nnameserver 192.0.2.53\nsearch site.example\noptions timeout:1 attempts:2\n"
    )
    return Names(cluster_dns=["10.96.0.10"], resolver=resolver)


def test_pod_asks_the_clusters_dns_first(names: Names) -> None:
    dns = names.dns(pod())
    assert dns is not None
    assert dns.servers == ["10.96.0.10"]
    assert dns.searches == [
        "default.svc.cluster.local",
        "svc.cluster.local",
        "cluster.local",
        "site.example",
    ]
    assert dns.options == ["ndots:5"]


@pytest.mark.parametrize(
    ("spec", "uses_cluster"),
    [
        ({"dnsPolicy": "Default"}, False),
        ({"hostNetwork": True}, False),
        ({"hostNetwork": True, "dnsPolicy": "ClusterFirstWithHostNet"}, True),
    ],
)
def test_policy_says_who_is_asked(
    names: Names, spec: dict[str, Any], *, uses_cluster: bool
) -> None:
    dns = names.dns(pod(**spec))
    assert dns is not None
    assert dns.servers == (["10.96.0.10"] if uses_cluster else ["192.0.2.53"])


def test_nothing_is_asked_twice(tmp_path: Path) -> None:
    resolver = tmp_path / "resolv.conf"
    resolver.write_text("search cluster.local site.example\n")
    dns = Names(cluster_dns=["10.96.0.10", "10.96.0.10"], resolver=resolver).dns(pod())
    assert dns is not None
    assert dns.servers == ["10.96.0.10"]
    assert dns.searches[2:] == ["cluster.local", "site.example"]


def test_without_a_cluster_dns_the_nodes_resolver_serves() -> None:
    assert Names().dns(pod()) is None


def test_pods_settings_are_added_and_its_options_win(names: Names) -> None:
    config = {
        "nameservers": ["192.0.2.54", "192.0.2.53"],
        "searches": ["site.example", "more.example"],
        "options": [{"name": "timeout", "value": "5"}, {"name": "edns0"}],
    }
    dns = names.dns(pod(dnsPolicy="Default", dnsConfig=config))
    assert dns is not None
    assert dns.servers == ["192.0.2.53", "192.0.2.54"]
    assert dns.searches == ["site.example", "more.example"]
    assert dns.options == ["timeout:5", "attempts:2", "edns0"]
    alone = names.dns(pod(dnsPolicy="None", dnsConfig=config))
    assert alone is not None
    assert alone.servers == ["192.0.2.54", "192.0.2.53"]
    assert alone.options == ["timeout:5", "edns0"]


def test_no_more_is_asked_than_resolvers_bear(names: Names) -> None:
    config = {
        "nameservers": [f"192.0.2.{number}" for number in range(9)],
        "searches": [f"{number}.example" for number in range(99)],
    }
    dns = names.dns(pod(dnsPolicy="None", dnsConfig=config))
    assert dns is not None
    assert (len(dns.servers), len(dns.searches)) == (3, 32)


def test_host_name_is_the_pods_short_one(names: Names) -> None:
    assert names.hostname(pod("a")) == "a"
    assert names.hostname(pod("a", hostname="other", subdomain="sub")) == "other"
    assert names.hostname(pod("a", hostNetwork=True)) == ""
    assert len(names.hostname(pod("a" * 100))) == 63


def test_host_name_is_the_full_one_on_demand(names: Names) -> None:
    made = pod("a", hostname="h", subdomain="sub", setHostnameAsFQDN=True)
    assert names.hostname(made) == "h.sub.default.svc.cluster.local"
    with pytest.raises(ConfigError, match="64 characters is the max"):
        names.hostname(pod("a" * 50, subdomain="sub", setHostnameAsFQDN=True))


def test_name_that_replaces_all_others_is_taken_as_it_is(names: Names) -> None:
    made = pod("a", hostnameOverride="my.own", hostname="h", subdomain="s", setHostnameAsFQDN=True)
    assert names.hostname(made) == "my.own"
    assert "10.88.0.2\tmy.own\n" in hosts_text(made, ["10.88.0.2"], names)


def test_hosts_file_knows_the_pod_and_its_aliases(names: Names) -> None:
    aliases = [{"ip": "192.0.2.9", "hostnames": ["one.example", "two.example"]}]
    made = pod("a", subdomain="sub", hostAliases=aliases)
    lines = hosts_text(made, ["10.88.0.2", "fd00::2"], names).splitlines()
    assert "127.0.0.1\tlocalhost" in lines
    assert "fd00::2\ta.sub.default.svc.cluster.local\ta" in lines
    assert "10.88.0.2\ta.sub.default.svc.cluster.local\ta" in lines
    assert lines[-1] == "192.0.2.9\tone.example\ttwo.example"


def test_pod_on_the_nodes_network_sees_the_nodes_file(names: Names, tmp_path: Path) -> None:
    nodes = tmp_path / "hosts"
    nodes.write_text("192.0.2.1 gateway\n")
    aliases = [{"ip": "192.0.2.9", "hostnames": ["one"]}]
    made = pod(hostNetwork=True, hostAliases=aliases)
    text = hosts_text(made, ["192.0.2.1"], names, nodes=nodes)
    assert text == "192.0.2.1 gateway\n192.0.2.9\tone\n"


def test_hosts_file_is_written_in_place_and_only_if_it_differs(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "hosts"
    write_hosts(path, "one\n")
    first = path.stat()
    write_hosts(path, "one\n")
    assert path.stat().st_mtime_ns == first.st_mtime_ns
    write_hosts(path, "two\n")
    assert (path.stat().st_ino, path.read_text()) == (first.st_ino, "two\n")
