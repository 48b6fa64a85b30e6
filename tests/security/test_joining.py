"""Joining with what one has no right to, and what is said then."""

import asyncio
import base64
import dataclasses
import json
import time
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from fedge_enrolment import certificates as c
from fedge_enrolment import joining
from fedge_enrolment.dialling import context_of, request
from fedge_enrolment.identity import Identity
from fedge_enrolment.joining import FakeCloudError, fetch_authority
from fedge_enrolment.refusals import RefusedError
from fedge_enrolment.tokens import JoinToken, TokenError
from fedge_objects import NodeName
from tests.security.conftest import VICTIM, Node, System, until

pytestmark = [
    pytest.mark.stack,
    pytest.mark.broker,
    pytest.mark.redis,
    pytest.mark.containerd,
    pytest.mark.timeout(300),
]


class Asking:
    """Asks hub in ways that no gateway would."""

    def __init__(self, system: System, token: JoinToken) -> None:
        authority, _ = fetch_authority(system.enrolment, token)
        self._address = system.enrolment
        self._context = context_of(authority)
        self.token = token

    def ask(self, path: str = "/v1/join", **body: object) -> dict[str, Any]:
        return dict(json.loads(request(self._address, self._context, "POST", path, body).body))

    def join(self, node: str, csr: bytes | None = None, **more: object) -> Any:
        csr = csr or c.new_request(c.new_key(), NodeName(node))
        body: dict[str, object] = {
            "token": f"{self.token.id}.{self.token.secret}",
            "node": node,
            "csr": csr.decode(errors="replace"),
        }
        return self.ask(**(body | more))  # type: ignore[arg-type]


def refused(code: str) -> Any:
    return pytest.raises(RefusedError, check=lambda exc: exc.code == code and bool(exc.remedy))


@pytest.fixture
async def asking(system: System) -> Asking:
    return Asking(system, await system.token("--uses", "50"))


async def test_a_token_is_good_once(system: System) -> None:
    token = await system.token()
    asking = Asking(system, token)
    since = len(system.hub_log())
    key = c.new_key()
    csr = c.new_request(key, NodeName("once"))

    asking.join("once", csr)
    with refused("token_used"):
        asking.join("twice")
    with refused("token_used"):
        asking.join("once")

    assert asking.join("once", csr)["node"] == "once"  # its own answer was lost: it asks again
    assert system.logged("enrolment_refused", since, code="token_used")


async def test_a_replay_by_another_machine_is_refused(system: System) -> None:
    """Whoever saw a token and a name, and not the key."""
    token = await system.token("--node", "shop-7")
    node = await system.join("shop-7", token)
    with refused("token_used"):
        Asking(system, token).join("shop-7")
    async with node.connected():
        pass  # it still is who it was


async def test_a_forged_token_is_refused(asking: Asking) -> None:
    for forged in (
        f"{asking.token.id}.{'A' * 22}",
        f"{asking.token.id}.",
        asking.token.id,
        f"aaaaaaaa.{asking.token.secret}",
        f"../cloud.{asking.token.secret}",
        "",
        "x" * 4000,
    ):
        with refused("token_unknown"):
            asking.join("forger", token=forged)


async def test_a_token_that_ended_or_was_revoked_is_refused(system: System) -> None:
    short = await system.token("--ttl", "1s")
    asking = Asking(system, short)
    await until(lambda: time.time() > short.expires + 1, "the token has ended")
    with refused("token_expired"):
        asking.join("late")
    revoked = await system.token()
    await system.fedge("token", "revoke", revoked.id)
    with refused("token_unknown"):
        Asking(system, revoked).join("late")


async def test_a_token_for_a_node_is_for_that_node(system: System) -> None:
    asking = Asking(system, await system.token("--node", "gw-2"))
    with refused("token_other_node"):
        asking.join("gw-3")


async def test_nobody_takes_the_place_of_a_node_that_lives(asking: Asking) -> None:
    with refused("node_exists"):
        asking.join(VICTIM)


@pytest.mark.parametrize(
    "name",
    ["", "../../etc/passwd", "a/b", "a b", "A", "node.#", "*", "a\nb", "a;rm -rf /", "$(id)", "-a",
     "a..b", "a" * 254, "fedge\x00", "%2e%2e", "gw-1'; init:stop(). %"],
)  # fmt: skip
async def test_a_name_that_could_be_something_else_is_refused(name: str, asking: Asking) -> None:
    with refused("node_name_invalid"):
        asking.join(name, c.new_request(c.new_key(), NodeName("x")))


async def test_a_request_for_another_name_is_refused(asking: Asking) -> None:
    csr = c.new_request(c.new_key(), VICTIM)
    with refused("csr_other_name"):
        asking.join("innocent", csr)


@pytest.mark.parametrize(
    "extension",
    [
        x509.BasicConstraints(ca=True, path_length=None),
        x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"urn:fedge:node:{VICTIM}:0")]),
        x509.SubjectAlternativeName([x509.DNSName("hub.fedge.internal")]),
        x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.SERVER_AUTH]),
    ],
)
async def test_a_request_for_more_than_a_node_may_have_is_refused(
    extension: x509.ExtensionType, asking: Asking
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "greedy")])
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    csr = builder.add_extension(extension, critical=False).sign(key, hashes.SHA256())
    with refused("csr_asks_too_much"):
        asking.join("greedy", csr.public_bytes(serialization.Encoding.PEM))


async def test_what_is_granted_is_what_hub_decides(system: System) -> None:
    node = await system.join("plain")
    certificate = c.load(node.identity.certificate.read_bytes())
    assert c.users_of(certificate) == [node.joined.user]
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert not constraints.ca
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH]
    for file in node.identity.folder.iterdir():
        assert file.stat().st_mode & 0o077 == 0, f"others can read {file.name}"


async def test_a_weak_key_and_what_is_no_request_are_refused(asking: Asking) -> None:
    key = rsa.generate_private_key(65537, 1024)  # noqa: S505 - which is the point
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "weak")])
    csr = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    with refused("csr_weak_key"):
        asking.join("weak", csr.public_bytes(serialization.Encoding.PEM))
    good = c.new_request(c.new_key(), NodeName("weak"))
    for bad in (b"", b"x", good[:-40], good.replace(b"A", b"B", 3), b"\x00" * 100):
        with pytest.raises(RefusedError, check=lambda exc: exc.code.startswith("csr_")):
            asking.join("weak", bad or b" ")


async def test_bad_requests_are_told_what_is_wrong(asking: Asking) -> None:
    with refused("body_malformed"):
        asking.ask(token=1, node="a", csr="b")
    with refused("body_malformed"):
        asking.ask(token="a.b", node="a", csr="b", admin=True)
    with refused("body_too_large"):
        asking.ask(token="a.b", node="a", csr="x" * 70_000)
    with refused("sealing_key_malformed"):
        asking.join("a", sealingKey=base64.b64encode(b"short").decode())
    with refused("not_found"):
        asking.ask("/v1/tokens")
    with refused("not_found"):
        asking.ask("/v1/../../nodes/x/status")


async def test_a_gateway_does_not_trust_another_cloud(system: System) -> None:
    token = await system.token()
    other = dataclasses.replace(token, fingerprint=bytes(32))
    with pytest.raises(FakeCloudError):
        await system.join("careful", other)


async def test_a_damaged_token_is_told_apart(system: System) -> None:
    text = (await system.token()).encode()
    for damaged in (text[:-1], text[1:], text[:20] + text[21:], text + "x", "hello", ""):
        with pytest.raises(TokenError):
            JoinToken.decode(damaged)
    assert JoinToken.decode(f" {text}\n").encode() == text


async def test_joining_again_is_harmless(system: System) -> None:
    token = await system.token()
    node = await system.join("again", token)
    files = {each.name: each.read_bytes() for each in node.identity.folder.iterdir()}
    joined = await asyncio.to_thread(joining.join, node.identity, token, node=NodeName("again"))
    assert joined == node.joined
    assert {each.name: each.read_bytes() for each in node.identity.folder.iterdir()} == files


async def test_a_gateway_that_died_while_it_joined_joins_with_what_it_has(
    system: System,
) -> None:
    token = await system.token()
    node = await system.join("mortal", token)
    for name in ("joined.json", "certificate.pem", "ca.pem"):
        (node.identity.folder / name).unlink()
    joined = await asyncio.to_thread(
        joining.join, Identity(node.identity.folder), token, node=NodeName("mortal")
    )
    assert joined.user == node.joined.user


async def test_two_machines_of_one_name_end_in_one_node(system: System) -> None:
    token = await system.token("--uses", "2")
    results = await asyncio.gather(
        system.join("twin", token), system.join("twin", token), return_exceptions=True
    )
    nodes = [each for each in results if isinstance(each, Node)]
    errors = [each for each in results if isinstance(each, RefusedError)]
    assert len(nodes) == 1
    assert [each.code for each in errors] == ["node_exists"]
    async with nodes[0].connected():
        pass
