"""The two interfaces: the Kubernetes API, and MQTT at one node. Nothing else is known here."""

import asyncio
import base64
import json
import ssl
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import aiohttp
import aiomqtt
import yaml

GROUP = "apis/devices.kubeedge.io/v1beta1"
NAMESPACE = "default"
SECONDS = 20.0
"""As long as anything may take."""

JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where the system is that is tested."""

    kubeconfig: Path
    mqtt_host: str
    mqtt_port: int
    mqtt_user: str | None
    mqtt_password: str | None
    node: str


class RefusedError(Exception):
    """The API said no; ``code`` is HTTP's."""

    def __init__(self, code: int, body: str) -> None:
        super().__init__(f"{code}: {body[:300]}")
        self.code = code


class Api:
    """The Kubernetes API."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    @classmethod
    @asynccontextmanager
    async def connected(cls, kubeconfig: Path) -> AsyncIterator[Self]:
        """Open it as a kubeconfig's current context says."""
        config = yaml.safe_load(await asyncio.to_thread(kubeconfig.read_text))
        context = _named(config["contexts"], config["current-context"])["context"]
        cluster = _named(config["clusters"], context["cluster"])["cluster"]
        user = _named(config["users"], context["user"])["user"]
        headers = {"Authorization": f"Bearer {user['token']}"} if user.get("token") else {}
        connector = aiohttp.TCPConnector(ssl=_tls(cluster, user), limit=50)
        async with aiohttp.ClientSession(
            cluster["server"].rstrip("/") + "/", headers=headers, connector=connector
        ) as session:
            yield cls(session)

    async def get(self, kind: str, name: str) -> JsonObject | None:
        """Return an object; None if there is none."""
        try:
            return await self._call("GET", _path(kind, name))
        except RefusedError as exc:
            if exc.code == 404:
                return None
            raise

    async def create(self, kind: str, obj: JsonObject) -> JsonObject:
        """Create an object."""
        return await self._call("POST", _path(kind), json=obj)

    async def patch(self, kind: str, name: str, patch: JsonObject) -> JsonObject:
        """Change an object (RFC 7386)."""
        headers = {"Content-Type": "application/merge-patch+json"}
        body = json.dumps(patch)
        return await self._call("PATCH", _path(kind, name), data=body, headers=headers)

    async def delete(self, kind: str, name: str) -> None:
        """Delete an object, if it is there."""
        try:
            await self._call("DELETE", _path(kind, name))
        except RefusedError as exc:
            if exc.code != 404:
                raise

    async def until(
        self, kind: str, name: str, so: Callable[[JsonObject | None], bool]
    ) -> JsonObject | None:
        """Wait until an object is as wished (None: it is not there), and return it."""
        found: JsonObject | None = None
        try:
            async with asyncio.timeout(SECONDS):
                async for found in self._states(kind, name):
                    if so(found):
                        return found
        except TimeoutError:
            raise AssertionError(f"{kind}/{name} did not become as wished: {found}") from None
        raise AssertionError("a watch has no end")

    async def _states(self, kind: str, name: str) -> AsyncIterator[JsonObject | None]:
        while True:
            listed = await self._call("GET", _path(kind), params=_field(name))
            yield listed["items"][0] if listed["items"] else None
            params = {
                **_field(name),
                "watch": "true",
                "resourceVersion": listed["metadata"]["resourceVersion"],
            }
            async with self._session.get(_path(kind), params=params) as answer:
                async for line in answer.content:
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        break
                    yield None if event["type"] == "DELETED" else event["object"]

    async def _call(self, method: str, path: str, **more: Any) -> JsonObject:
        async with self._session.request(method, path, **more) as answer:
            text = await answer.text()
            if answer.status >= 400:
                raise RefusedError(answer.status, text)
            body: JsonObject = json.loads(text)
            return body


class Mqtt:
    """A client at the node's broker."""

    def __init__(self, client: aiomqtt.Client) -> None:
        self._client = client
        self._came = asyncio.Condition()
        self.messages: list[tuple[str, Any]] = []

    @classmethod
    @asynccontextmanager
    async def connected(cls, target: Target) -> AsyncIterator[Self]:
        """Connect."""
        async with aiomqtt.Client(
            target.mqtt_host,
            target.mqtt_port,
            username=target.mqtt_user,
            password=target.mqtt_password,
        ) as client:
            mqtt = cls(client)
            hearing = asyncio.create_task(mqtt._hear())
            try:
                yield mqtt
            finally:
                hearing.cancel()
                await asyncio.gather(hearing, return_exceptions=True)

    async def subscribe(self, *filters: str) -> None:
        """Begin to listen."""
        for each in filters:
            await self._client.subscribe(each, qos=1)

    async def publish(self, topic: str, payload: bytes | str | JsonObject, qos: int = 1) -> None:
        """Say something."""
        body = json.dumps(payload) if isinstance(payload, dict) else payload
        await self._client.publish(topic, body, qos=qos)

    async def heard(self, topic: str, so: Callable[[Any], object] = lambda _: True) -> Any:
        """Return the first message of a topic that is as wished; it and those before are dropped.

        A broker may give the dots of a topic as slashes.
        """
        try:
            async with asyncio.timeout(SECONDS), self._came:
                while True:
                    for index, (on, body) in enumerate(self.messages):
                        if _same(on, topic) and so(body):
                            del self.messages[: index + 1]
                            return body
                    await self._came.wait()
        except TimeoutError:
            raise AssertionError(f"not heard on {topic}; heard: {self.messages[-5:]}") from None

    def has_heard(self, topic: str) -> bool:
        """Whether a message of a topic waits."""
        return any(_same(on, topic) for on, _ in self.messages)

    async def _hear(self) -> None:
        async for message in self._client.messages:
            assert isinstance(message.payload, bytes)
            async with self._came:
                self.messages.append((str(message.topic), json.loads(message.payload)))
                self._came.notify_all()


def reported(status: JsonObject | None) -> dict[str, str]:
    """Return what a DeviceStatus says that properties are."""
    return _values(status, "reported")


def observed(status: JsonObject | None) -> dict[str, str]:
    """Return what a DeviceStatus says that properties should be."""
    return _values(status, "observedDesired")


def conditions(device: JsonObject | None) -> Mapping[str, JsonObject]:
    """Return a Device's conditions by type."""
    found = ((device or {}).get("status") or {}).get("conditions") or []
    return {each["type"]: each for each in found}


def _values(status: JsonObject | None, side: str) -> dict[str, str]:
    twins = ((status or {}).get("status") or {}).get("twins") or []
    return {
        each["propertyName"]: each[side]["value"]
        for each in twins
        if (each.get(side) or {}).get("value") is not None
    }


def _same(one: str, other: str) -> bool:
    return one.replace(".", "/") == other.replace(".", "/")


def _path(kind: str, name: str = "") -> str:
    return "/".join(part for part in (GROUP, "namespaces", NAMESPACE, kind, name) if part)


def _field(name: str) -> dict[str, str]:
    return {"fieldSelector": f"metadata.name={name}"}


def _named(items: list[JsonObject], name: str) -> JsonObject:
    return next(each for each in items if each["name"] == name)


def _tls(cluster: JsonObject, user: JsonObject) -> ssl.SSLContext | bool:
    if not cluster["server"].startswith("https"):
        return True
    context = ssl.create_default_context(
        cafile=cluster.get("certificate-authority"),
        cadata=_decoded(cluster.get("certificate-authority-data")),
    )
    if cluster.get("insecure-skip-tls-verify"):
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if user.get("client-certificate"):
        context.load_cert_chain(user["client-certificate"], user["client-key"])
    elif user.get("client-certificate-data"):
        with tempfile.NamedTemporaryFile("w") as file:
            file.write(_decoded(user["client-certificate-data"]) or "")
            file.write(_decoded(user["client-key-data"]) or "")
            file.flush()
            context.load_cert_chain(file.name)
    return context


def _decoded(data: str | None) -> str | None:
    return None if data is None else base64.b64decode(data).decode()
