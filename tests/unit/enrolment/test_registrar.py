"""Who is let in, what is granted, and how a certificate lives and ends."""

import asyncio
import base64
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from fedge_enrolment import certificates as c
from fedge_enrolment.authority import Authorities
from fedge_enrolment.records import FolderRecords, Records
from fedge_enrolment.refusals import RefusedError
from fedge_enrolment.registrar import (
    Grant,
    JoinRequest,
    Registrar,
    RenewRequest,
    Terms,
    renewal_message,
)
from fedge_enrolment.tokens import JoinToken, TokenError
from fedge_objects import NodeName
from tests.unit.enrolment.clock import Clock

NODE = NodeName("gw-1.plant.example")
LIFETIME, GRACE = timedelta(days=90), timedelta(days=180)


class Cloud:
    """A registrar with its clock."""

    def __init__(self, records: Records, grace: timedelta = GRACE) -> None:
        self.clock = Clock()
        self.records = records
        self.authorities = Authorities(records, self.clock)
        terms = Terms(broker="cloud:5671", cloud="cloud:443", lifetime=LIFETIME, grace=grace)
        self.registrar = Registrar(
            records=records, authorities=self.authorities, terms=terms, now=self.clock
        )

    async def join(self, key: bytes, token: JoinToken, node: NodeName = NODE) -> Grant:
        csr = c.new_request(key, node).decode()
        shown = f"{token.id}.{token.secret}"
        return await self.registrar.join(JoinRequest(token=shown, node=node, csr=csr))

    async def renew(
        self, key: bytes, grant: Grant, *, new: bytes = b"", signer: bytes = b"", late: int = 0
    ) -> Grant:
        request = RenewRequest(
            node=grant.node,
            csr=c.new_request(new or key, NodeName(grant.node)).decode(),
            certificate=grant.certificate,
            at=int(self.clock().timestamp()) - late,
            signature="",
        )
        signature = base64.b64encode(c.sign(signer or key, renewal_message(request))).decode()
        return await self.registrar.renew(msgspec.structs.replace(request, signature=signature))

    async def uses(self) -> int:
        return sum(len(each.used) for each in await self.registrar.tokens())


@pytest.fixture
def cloud(tmp_path: Path) -> Cloud:
    return Cloud(FolderRecords(tmp_path))


def refused(code: str) -> pytest.RaisesExc[RefusedError]:
    return pytest.RaisesExc(RefusedError, check=lambda exc: exc.code == code and bool(exc.remedy))


async def test_a_certificate_says_what_the_cloud_decides(cloud: Cloud) -> None:
    grant = await cloud.join(c.new_key(), await cloud.registrar.create_token())
    certificate = c.load(grant.certificate.encode())
    assert c.users_of(certificate) == [grant.user]
    assert grant.user.startswith(f"urn:fedge:node:{NODE}:")
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert not constraints.value.ca
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    life = certificate.not_valid_after_utc - cloud.clock()
    assert life == LIFETIME
    left = grant.renew_after - cloud.clock().timestamp()
    assert left == pytest.approx(LIFETIME.total_seconds() * 2 / 3, rel=0.01)
    assert c.is_issued_by(certificate, c.split(grant.authorities.encode()))


async def test_a_token_is_used_once_by_one_key_however_often_it_asks(cloud: Cloud) -> None:
    token, key = await cloud.registrar.create_token(), c.new_key()
    grants = await asyncio.gather(*(cloud.join(key, token) for _ in range(5)))
    assert len({grant.user for grant in grants}) == 1
    assert await cloud.uses() == 1
    with refused("token_used"):
        await cloud.join(c.new_key(), token, NodeName("another"))


async def test_what_is_refused_for_another_reason_uses_no_token(cloud: Cloud) -> None:
    token = await cloud.registrar.create_token()
    await cloud.join(c.new_key(), await cloud.registrar.create_token())
    with refused("node_exists"):
        await cloud.join(c.new_key(), token)
    assert await cloud.uses() == 1
    await cloud.join(c.new_key(), token, NodeName("free"))


async def test_of_many_at_once_a_token_lets_in_as_many_as_it_says(cloud: Cloud) -> None:
    token = await cloud.registrar.create_token(uses=3)

    async def joins(number: int) -> str:
        try:
            await cloud.join(c.new_key(), token, NodeName(f"n-{number}"))
        except RefusedError as exc:
            return exc.code
        return "joined"

    answers = await asyncio.gather(*map(joins, range(8)))
    assert sorted(answers) == ["joined"] * 3 + ["token_used"] * 5


async def test_a_token_for_a_node_lets_it_take_the_nodes_place(cloud: Cloud) -> None:
    old = c.new_key()
    before = await cloud.join(old, await cloud.registrar.create_token())
    after = await cloud.join(c.new_key(), await cloud.registrar.create_token(node=NODE))
    assert after.user != before.user
    with refused("identity_replaced"):
        await cloud.renew(old, before)


async def test_tokens_end(cloud: Cloud) -> None:
    token = await cloud.registrar.create_token(lifetime=timedelta(minutes=5))
    cloud.clock.passes(timedelta(minutes=5, seconds=1))
    with refused("token_expired"):
        await cloud.join(c.new_key(), token)
    cloud.clock.passes(timedelta(days=2))
    await cloud.registrar.create_token()
    with refused("token_unknown"):
        await cloud.join(c.new_key(), token)


async def test_the_secret_of_a_token_is_not_kept(cloud: Cloud, tmp_path: Path) -> None:
    token = await cloud.registrar.create_token()
    kept = str([each.data for each in await cloud.records.all_of("token")])
    assert token.id in kept
    assert token.secret not in kept


async def test_a_renewal_goes_on_being_the_same_node(cloud: Cloud) -> None:
    key, new = c.new_key(), c.new_key()
    grant = await cloud.join(key, await cloud.registrar.create_token())
    cloud.clock.passes(LIFETIME * 2 / 3)
    renewed = await cloud.renew(key, grant, new=new)
    assert (renewed.node, renewed.user) == (grant.node, grant.user)
    assert renewed.expires > grant.expires
    await cloud.renew(new, renewed)


async def test_a_renewal_is_the_keys_own_and_of_now(cloud: Cloud) -> None:
    key = c.new_key()
    grant = await cloud.join(key, await cloud.registrar.create_token())
    with refused("signature_wrong"):
        await cloud.renew(key, grant, signer=c.new_key())
    for late in (1000, -1000):
        with refused("clock_skew"):
            await cloud.renew(key, grant, late=late)


@pytest.mark.parametrize(
    ("grace", "away", "is_let_in"),
    [
        (GRACE, LIFETIME + GRACE - timedelta(hours=1), True),
        (GRACE, LIFETIME + GRACE + timedelta(hours=1), False),
        (timedelta(0), LIFETIME - timedelta(hours=1), True),
        (timedelta(0), LIFETIME + timedelta(hours=1), False),
    ],
)
async def test_who_was_away_past_the_end_is_renewed_within_the_grace(
    tmp_path: Path, grace: timedelta, away: timedelta, is_let_in: bool
) -> None:
    cloud, key = Cloud(FolderRecords(tmp_path), grace), c.new_key()
    grant = await cloud.join(key, await cloud.registrar.create_token())
    cloud.clock.passes(away)
    if is_let_in:
        await cloud.renew(key, grant)
    else:
        with refused("certificate_expired"):
            await cloud.renew(key, grant)


async def test_a_revoked_node_is_out_until_it_has_a_new_key(cloud: Cloud) -> None:
    key = c.new_key()
    grant = await cloud.join(key, await cloud.registrar.create_token())
    serial = c.load(grant.certificate.encode()).serial_number
    assert serial not in c.revoked_in(await cloud.registrar.revocations())
    revoked = await cloud.registrar.revoke(NODE)
    assert revoked is not None
    assert await cloud.registrar.revoke(NODE) == revoked
    assert serial in c.revoked_in(await cloud.registrar.revocations())
    with refused("node_revoked"):
        await cloud.renew(key, grant)
    with refused("key_revoked"):
        await cloud.join(key, await cloud.registrar.create_token())
    again = await cloud.join(c.new_key(), await cloud.registrar.create_token())
    assert again.user != grant.user
    assert serial in c.revoked_in(await cloud.registrar.revocations())
    cloud.clock.passes(LIFETIME + timedelta(days=1))
    await cloud.registrar.revoke(NODE)
    assert await cloud.registrar.revoke(NodeName("nobody")) is None


async def test_a_rotation_has_both_authorities_trusted_and_the_new_one_sign_later(
    cloud: Cloud,
) -> None:
    key = c.new_key()
    old = await cloud.authorities.current()
    grant = await cloud.join(key, await cloud.registrar.create_token())
    new = await cloud.registrar.rotate_authority(timedelta(minutes=10))
    with refused("rotation_under_way"):
        await cloud.registrar.rotate_authority(timedelta(minutes=10))
    between = await cloud.authorities.current()
    assert between.signing == old.signing
    assert [c.fingerprint(each) for each in c.split(between.bundle)] == [new, old.fingerprint]
    cloud.clock.passes(timedelta(minutes=11))
    after = await cloud.authorities.current()
    assert after.fingerprint == new
    # who knows the old one only still trusts what the new one signs
    [cross] = c.split(after.cross)
    assert c.is_issued_by(c.load(cross), c.split(old.bundle))
    renewed = await cloud.renew(key, grant)
    assert c.is_issued_by(c.load(renewed.certificate.encode()), [after.signing.certificate])
    server = await cloud.authorities.server("hub", [])
    assert len(c.split(server.chain)) == 2


async def test_an_authority_whose_key_was_stolen_is_trusted_no_longer(cloud: Cloud) -> None:
    slow, quick = c.new_key(), c.new_key()
    old = await cloud.authorities.current()
    left = await cloud.join(slow, await cloud.registrar.create_token(), NodeName("slow"))
    grant = await cloud.join(quick, await cloud.registrar.create_token())
    with refused("authority_signs"):
        await cloud.registrar.distrust_authority(old.fingerprint)
    await cloud.registrar.rotate_authority(timedelta(minutes=10))
    cloud.clock.passes(timedelta(minutes=11))
    renewed = await cloud.renew(quick, grant)
    server = await cloud.authorities.server("hub", [])
    await cloud.registrar.distrust_authority(old.fingerprint)
    now = await cloud.authorities.current()
    assert [c.fingerprint(each) for each in c.split(now.bundle)] == [now.fingerprint]
    assert now.cross == b""
    again = await cloud.authorities.server("hub", [])
    assert again.chain != server.chain
    assert c.is_issued_by(c.load(c.split(again.chain)[0]), [now.signing.certificate])
    with refused("certificate_foreign"):
        await cloud.renew(slow, left)
    await cloud.renew(quick, renewed)
    with refused("authority_unknown"):
        await cloud.registrar.distrust_authority(old.fingerprint)


async def test_tokens_from_before_a_rotation_still_work(cloud: Cloud) -> None:
    token = await cloud.registrar.create_token(lifetime=timedelta(hours=2))
    await cloud.registrar.rotate_authority(timedelta(minutes=10))
    cloud.clock.passes(timedelta(hours=1))
    bundle = c.split(await cloud.registrar.bundle())
    assert token.fingerprint in {c.fingerprint(each) for each in bundle}
    await cloud.join(c.new_key(), token)


@given(
    st.builds(
        JoinToken,
        cloud=st.text(max_size=60),
        fingerprint=st.binary(min_size=32, max_size=32),
        id=st.text(max_size=10),
        secret=st.text(max_size=30),
        expires=st.integers(0, 2**40),
        node=st.text(max_size=60),
    )
)
def test_a_token_is_read_as_it_was_written(token: JoinToken) -> None:
    assert JoinToken.decode(f" {token.encode()}\n") == token


@given(st.data())
def test_a_token_that_was_copied_wrong_is_told_apart(data: st.DataObject) -> None:
    text = JoinToken(
        cloud="cloud:443", fingerprint=bytes(32), id="abcdefgh", secret="s", expires=1, node="n"
    ).encode()
    place = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters(codec="ascii").filter(lambda each: each != text[place]))
    changed = text[:place] + other + text[place + 1 :]
    # the last character may have bits that nothing is written in
    if place < len(text) - 1:
        with pytest.raises(TokenError, match=r"fedge token create"):
            JoinToken.decode(changed.replace(" ", "*"))
    with pytest.raises(TokenError):
        JoinToken.decode(text[:place])
