"""Certificates that are over, revoked, or not this cloud's."""

import asyncio
import base64
import json
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiormq
import msgspec
import pytest
from aiormq.exceptions import AMQPError

from fedge_enrolment import certificates as c
from fedge_enrolment import joining
from fedge_enrolment.dialling import context_of, request
from fedge_enrolment.refusals import RefusedError
from fedge_enrolment.registrar import RenewRequest, renewal_message
from tests.security.conftest import Node, System, until

pytestmark = [
    pytest.mark.stack,
    pytest.mark.broker,
    pytest.mark.redis,
    pytest.mark.containerd,
    pytest.mark.timeout(300),
]

KEPT_OUT = (AMQPError, ConnectionError, ssl.SSLError, EOFError, OSError)


async def authority(system: System) -> c.KeyPair:
    """Return the authority's key, as only the cluster's administrator can."""
    secret = json.loads(
        await system.fedge(
            "get", "secret", "fedge-authority-cloud", "-n", "fedge-system", "-o", "json"
        )
    )
    data = {name: base64.b64decode(value) for name, value in secret["data"].items()}
    return c.KeyPair(certificate=data["tls.crt"], key=data["tls.key"])


async def logs_in(node: Node, folder: Path, certificate: bytes, key: bytes) -> None:
    files = folder / "certificate.pem", folder / "key.pem"
    files[0].write_bytes(certificate)
    files[1].write_bytes(key)
    context = context_of(node.identity.authorities, certificate=files[0], key=files[1])
    connection = await aiormq.connect(node.url(), context=context)
    await connection.close()


async def test_only_a_certificate_of_this_cloud_that_is_valid_logs_in(
    mallory: Node, system: System, tmp_path: Path
) -> None:
    own = await authority(system)
    key = mallory.identity.key.read_bytes()
    now = datetime.now(UTC)

    def issued(by: c.KeyPair, when: datetime, user: str = mallory.joined.user) -> bytes:
        lifetime = timedelta(days=1)
        public = c.public_of(key)
        return c.issue_client(by, public, name="x", user=user, now=when, lifetime=lifetime)

    await logs_in(mallory, tmp_path, issued(own, now), key)

    foreign = c.new_authority(now, lifetime=timedelta(days=9))
    server = c.issue_server(own, ["hub.fedge.internal"], now, lifetime=timedelta(days=1))
    for name, certificate, its_key in (
        ("expired", issued(own, now - timedelta(days=9)), key),
        ("not yet valid", issued(own, now + timedelta(days=9)), key),
        ("foreign", issued(foreign, now), key),
        ("of a server", server.certificate, server.key),
        ("of nobody known", issued(own, now, user="urn:fedge:node:nobody:00000000"), key),
        ("of an administrator", issued(own, now, user="fedge "), key),
        ("an authority of its own", foreign.certificate, foreign.key),
    ):
        try:
            await logs_in(mallory, tmp_path, certificate, its_key)
        except KEPT_OUT:
            continue
        pytest.fail(f"a certificate that is {name} logged in")


async def test_a_node_that_is_revoked_is_out_at_once_and_stays_out(system: System) -> None:
    node = await system.join("stolen")
    async with node.connected() as connection:
        closed = asyncio.ensure_future(connection.closing)
        began = asyncio.get_running_loop().time()
        await system.fedge("node", "revoke", "stolen")
        async with asyncio.timeout(10):
            await asyncio.wait([closed])
        assert asyncio.get_running_loop().time() - began < 10

    with pytest.raises(KEPT_OUT):
        async with node.connected():
            pass
    with pytest.raises(RefusedError, check=lambda exc: exc.code == "node_revoked"):
        await asyncio.to_thread(joining.renew, node.identity)
    (node.identity.folder / "joined.json").unlink()
    token = await system.token("--node", "stolen")
    with pytest.raises(RefusedError, check=lambda exc: exc.code == "key_revoked"):
        await asyncio.to_thread(joining.join, node.identity, token, node=node.name)

    # the gateway that takes its place is let in, and the keys of the first are worth nothing still
    heir = await system.join("stolen", token)
    async with heir.connected():
        pass
    with pytest.raises(KEPT_OUT):
        async with node.connected():
            pass
    certificate, trusted = node.identity.certificate, node.identity.authorities
    node.identity.keep(
        node.joined, certificate=certificate.read_text(), authorities=trusted.read_text()
    )
    with pytest.raises(RefusedError, check=lambda exc: exc.code == "identity_replaced"):
        await asyncio.to_thread(joining.renew, node.identity)


async def test_revoked_serials_are_on_the_list(system: System) -> None:
    node = await system.join("listed")
    serial = c.load(node.identity.certificate.read_bytes()).serial_number
    await system.fedge("node", "revoke", "listed")
    context = context_of(node.identity.authorities)
    answer = request(system.enrolment, context, "GET", "/v1/crl")
    listed = c.revoked_in(answer.body)
    assert serial in listed


async def test_a_certificate_is_renewed_by_its_key(mallory: Node) -> None:
    before = mallory.identity.certificate.read_bytes()
    renewed = await asyncio.to_thread(joining.renew, mallory.identity)
    assert renewed.user == mallory.joined.user
    assert mallory.identity.certificate.read_bytes() != before
    async with mallory.connected():
        pass


async def test_a_renewal_that_is_not_ones_own_is_refused(mallory: Node, system: System) -> None:
    victims = system.stack.edge(system.stack.edge_names[0]).parts.identity
    context = context_of(mallory.identity.authorities)

    def ask(*, certificate: bytes, key: bytes, node: str, at: float | None = None) -> None:
        unsigned = RenewRequest(
            node=node,
            csr=c.new_request(key, mallory.name if node == mallory.name else node).decode(),  # type: ignore[arg-type]
            certificate=certificate.decode(),
            at=int(at or datetime.now(UTC).timestamp()),
            signature="",
        )
        signature = base64.b64encode(c.sign(key, renewal_message(unsigned))).decode()
        body = msgspec.to_builtins(msgspec.structs.replace(unsigned, signature=signature))
        request(system.enrolment, context, "POST", "/v1/renew", body)

    own, key = mallory.identity.certificate.read_bytes(), mallory.identity.key.read_bytes()
    others = victims.certificate.read_bytes()
    foreign = c.new_authority(datetime.now(UTC), lifetime=timedelta(days=1))
    for code, certificate, node, at in (
        ("signature_wrong", others, victims.joined().node, None),  # type: ignore[union-attr]
        ("identity_replaced", own, victims.joined().node, None),  # type: ignore[union-attr]
        ("certificate_foreign", foreign.certificate, "mallory", None),
        ("clock_skew", own, "mallory", datetime.now(UTC).timestamp() - 3600),
        ("certificate_malformed", b"nothing", "mallory", None),
    ):
        with pytest.raises(RefusedError, check=lambda exc, code=code: exc.code == code):  # type: ignore[misc]
            ask(certificate=certificate, key=key, node=node, at=at)


async def test_a_certificate_that_is_over_is_renewed_for_a_while(
    mallory: Node, system: System, tmp_path: Path
) -> None:
    own = await authority(system)
    key = mallory.identity.key.read_bytes()

    def over_for(days: float) -> bytes:
        when = datetime.now(UTC) - timedelta(days=days + 1)
        return c.issue_client(
            own, c.public_of(key), name="mallory", user=mallory.joined.user, now=when,
            lifetime=timedelta(days=1),
        )  # fmt: skip

    mallory.identity.certificate.write_bytes(over_for(200))
    with pytest.raises(RefusedError, check=lambda exc: exc.code == "certificate_expired"):
        await asyncio.to_thread(joining.renew, mallory.identity)
    mallory.identity.certificate.write_bytes(over_for(100))
    await asyncio.to_thread(joining.renew, mallory.identity)
    async with mallory.connected():
        pass


async def test_the_authority_changes_and_all_stay_linked(system: System) -> None:
    """Those that trust only the former, and those that have the new one."""
    former = await system.join("conservative")
    tls = system.stack.folder / "cloud" / "rabbitmq-tls" / "broker.crt"
    before = await asyncio.to_thread(tls.read_bytes)
    await system.fedge("ca", "rotate", "--after=15s")
    await until(lambda: tls.read_bytes() != before, "the broker has a certificate of the new one")
    async with former.connected():
        pass
    new = await system.join("modern")
    assert len(c.split(new.identity.authorities.read_bytes())) == 2
    async with new.connected():
        pass
    await asyncio.to_thread(joining.renew, former.identity)
    async with former.connected():
        pass
