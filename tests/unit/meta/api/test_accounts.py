"""Whose token is believed at the edge, and whose is not."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from fedge_apiserver.registry import Registry
from fedge_apiserver.resources import Catalog
from fedge_apiserver.storage import MemoryStorage
from fedge_apiserver.store import Store
from fedge_apiserver.tokens import Bearer, TokenError, TokenKey
from fedge_edged.tokens import sign_here
from fedge_meta.api.accounts import POD_NAME, NodeAccounts
from fedge_objects import NodeName

NOW = 1_800_000_000
NODE = NodeName("gw-1.plant.example")
ISSUER = "https://cloud.example"
BEARER = Bearer(namespace="d", name="app", uid="u-app", bound=("Pod", "p", "u-pod"))


class World:
    """A node with one pod, its account, and the cloud that issues its tokens."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = float(NOW)
        self.key = TokenKey(ec.generate_private_key(ec.SECP256R1()), ISSUER)
        self.store = Store(MemoryStorage())
        self.accounts = NodeAccounts(
            Registry(self.store, Catalog()),
            node=NODE,
            issuers=folder / "issuers.json",
            node_key=folder / "token.key",
            now=lambda: self.now,
        )
        (folder / "token.key").write_bytes(b"k" * 32)

    async def open(self) -> None:
        await self.store.open()
        for resource, name, uid in (("serviceaccounts", "app", "u-app"), ("pods", "p", "u-pod")):
            await self.store.put(resource, "d", name, {"metadata": {"name": name, "uid": uid}})

    def know(self, keys: dict[str, Any] | None = None) -> None:
        known = {ISSUER: keys or self.key.key_set()}
        (self.folder / "issuers.json").write_text(json.dumps(known))

    def token(self, *audiences: str, bearer: Bearer = BEARER) -> str:
        return self.key.issue(bearer, audiences=audiences, now=NOW, seconds=3600)[0]

    def refusal(self, token: str) -> str:
        with pytest.raises(TokenError) as refused:
            self.accounts.user(token)
        return str(refused.value)


@pytest.fixture
async def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    await made.open()
    return made


async def test_token_of_the_cloud_is_known_by_the_keys_that_came_along(world: World) -> None:
    token = world.token()
    assert "whose keys this node was not given" in world.refusal(token)
    world.know()
    user = world.accounts.user(token)
    assert user.name == "system:serviceaccount:d:app"
    assert user.groups == (
        "system:serviceaccounts", "system:serviceaccounts:d", "system:authenticated"
    )  # fmt: skip
    assert dict(user.extra)[POD_NAME] == ("p",)
    world.now = NOW + 3601
    assert "expired" in world.refusal(token)


async def test_token_ends_with_its_pod_and_its_account(world: World) -> None:
    world.know()
    token = world.token()
    assert world.accounts.user(token).uid == "u-app"
    await world.store.put("pods", "d", "p", {"metadata": {"name": "p", "uid": "another"}})
    assert "was made anew" in world.refusal(token)
    await world.store.delete("pods", "d", "p", {"metadata": {"name": "p", "uid": "another"}})
    assert "is not among what this node was given" in world.refusal(token)
    loose = Bearer(namespace="d", name="app", uid="u-app")
    assert world.accounts.user(world.token(bearer=loose)).extra == ()
    await world.store.delete("serviceaccounts", "d", "app", {"metadata": {"name": "app"}})
    assert "serviceaccount d/app is not" in world.refusal(world.token(bearer=loose))


async def test_token_that_the_node_signed_is_known_with_the_cloud_away(world: World) -> None:
    world.know()
    world.now = NOW + 7200
    own = sign_here(world.token(), b"k" * 32, node=NODE, now=int(world.now))
    assert world.accounts.user(own).name == "system:serviceaccount:d:app"
    forged = sign_here(world.token(), b"x" * 32, node=NODE, now=int(world.now))
    assert "signature is wrong" in world.refusal(forged)
    elsewhere = sign_here(world.token(), b"k" * 32, node="other", now=int(world.now))
    assert "whose keys" in world.refusal(elsewhere)


async def test_token_for_others_is_not_for_the_api(world: World) -> None:
    world.know()
    token = world.token("vault")
    assert world.refusal(token) == "it is for vault"
    review = world.accounts.review({"token": token, "audiences": ["vault"]})
    assert (review["authenticated"], review["audiences"]) == (True, ["vault"])
    assert "error" in world.accounts.review({"token": token, "audiences": ["bank"]})
    assert "error" in world.accounts.review({})


async def test_tampered_and_alien_tokens_are_refused(world: World) -> None:
    world.know()
    head, claims, signature = world.token().split(".")
    decoded = json.loads(base64.urlsafe_b64decode(claims + "=="))
    decoded["kubernetes.io"]["serviceaccount"]["name"] = "admin"
    changed = base64.urlsafe_b64encode(json.dumps(decoded).encode()).rstrip(b"=").decode()
    assert "signature" in world.refusal(f"{head}.{changed}.{signature}")
    none = base64.urlsafe_b64encode(b'{"alg":"none"}').rstrip(b"=").decode()
    assert "signature" in world.refusal(f"{none}.{claims}.")
    # the public key as a secret: the algorithm is the key's, not the token's
    hs = base64.urlsafe_b64encode(b'{"alg":"HS256"}').rstrip(b"=").decode()
    assert "signature" in world.refusal(f"{hs}.{claims}.{signature}")
    for text in ("", "a.b.c", "a", "..", f"{head}.e30.{signature}"):
        assert "decoded" in world.refusal(text) or "no JSON Web Token" in world.refusal(text)
    (world.folder / "issuers.json").write_text("nonsense")
    assert "cannot be read" in world.refusal(world.token())


async def test_clusters_whose_keys_are_rsa_are_understood(world: World) -> None:
    key = rsa.generate_private_key(65537, 2048)
    numbers = key.public_key().public_numbers()

    def text(content: bytes) -> str:
        return base64.urlsafe_b64encode(content).rstrip(b"=").decode()

    world.know({"keys": [{
        "kty": "RSA", "kid": "r", "alg": "RS256",
        "n": text(numbers.n.to_bytes(256, "big")), "e": text(b"\x01\x00\x01"),
    }]})  # fmt: skip
    head = text(json.dumps({"alg": "RS256", "kid": "r"}).encode())
    claims = world.token().split(".")[1]
    signed = f"{head}.{claims}".encode()
    signature = text(key.sign(signed, padding.PKCS1v15(), hashes.SHA256()))
    user = world.accounts.user(f"{head}.{claims}.{signature}")
    assert user.name == "system:serviceaccount:d:app"
    assert "signature" in world.refusal(f"{head}.{claims}.{signature[:-4]}AAAA")
