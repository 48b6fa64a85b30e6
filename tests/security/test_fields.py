"""Fields that reach a file name, a command or a configuration: nothing gets out by them.

Once as anybody who may create objects says them, and once as if the cloud itself had been taken:
put straight into the link of the attacked node.
"""

import asyncio
import contextlib
import json
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiormq
import httpx
import pytest

from fedge_enrolment.refusals import RefusedError
from fedge_fabric import Address, envelope_of
from fedge_fabric import topology as t
from fedge_local.errors import CommandFailedError
from fedge_objects import Change, JsonObject, ObjectKey, Version
from tests.security.conftest import VICTIM, System, until

pytestmark = [
    pytest.mark.stack,
    pytest.mark.broker,
    pytest.mark.redis,
    pytest.mark.containerd,
    pytest.mark.timeout(300),
]

IMAGE = "fedge.local/hello:demo"
UP = "../" * 12
VERSION = Version(9_000_000_000_000_000, 9_000_000_000_000_000)


@pytest.fixture
def trace() -> Iterator[Path]:
    """A file that is there if an attack got through."""
    path = Path("/tmp") / f"fedge-attack-{secrets.token_hex(6)}"
    yield path
    path.unlink(missing_ok=True)


def got_through(trace: Path) -> bool:
    return trace.exists()


def commands(trace: Path) -> list[str]:
    """Return texts that leave the trace if a shell, Erlang or a template takes them for words."""
    touch = f"touch {trace}"
    return [
        f"$({touch})",
        f"`{touch}`",
        f"; {touch};",
        f"x\n{touch}\n",
        f"| {touch}",
        f'"), os:cmd("{touch}"), ("',
        f"'), os:cmd(\"{touch}\"), ('",
        f"-oProxyCommand={touch}",
    ]


def container(**more: Any) -> JsonObject:
    return {"name": "main", "image": IMAGE, **more}


def mounting(volume: JsonObject, **mount: Any) -> JsonObject:
    mounts = [{"name": "v", "mountPath": "/v", **mount}]
    return {
        "containers": [container(volumeMounts=mounts)],
        "volumes": [{"name": "v", **volume}],
    }


def hostile_pods(trace: Path) -> Iterator[JsonObject]:
    """Yield specs of pods of which each would write, read or run something elsewhere."""
    out = f"{UP}{str(trace)[1:]}"
    for path in (out, str(trace), f"a/{out}", ".."):
        items = [{"key": "k", "path": path}]
        yield mounting({"configMap": {"name": "bait", "items": items}})
        yield mounting({"secret": {"secretName": "bait", "items": items}})
        field = {"path": path, "fieldRef": {"fieldPath": "metadata.name"}}
        yield mounting({"downwardAPI": {"items": [field]}})
        token = {"serviceAccountToken": {"path": path}}
        yield mounting({"projected": {"sources": [token]}})
        yield mounting({"emptyDir": {}}, subPath=path)
        yield {"containers": [container(terminationMessagePath=path)]}
        profile = {"type": "Localhost", "localhostProfile": path}
        yield {"containers": [container(securityContext={"seccompProfile": profile})]}
    for text in (out, *commands(trace)):
        yield {"containers": [container(name=text)]}
        yield {"containers": [container(image=text)]}
        yield {"containers": [container()], "hostname": text}
        yield {"containers": [container()], "subdomain": text, "hostname": "a"}
        aliases = [{"ip": f"10.0.0.1 {text}", "hostnames": [f"a {text}"]}]
        yield {"containers": [container()], "hostAliases": aliases}
        dns = {"nameservers": [text], "searches": [text], "options": [{"name": text}]}
        yield {"containers": [container()], "dnsPolicy": "None", "dnsConfig": dns}
        sysctls = {"sysctls": [{"name": text, "value": text}]}
        yield {"containers": [container()], "securityContext": sysctls}
        yield {"containers": [container(workingDir=text, env=[{"name": text, "value": text}])]}
        yield {"containers": [container()], "volumes": [{"name": text, "emptyDir": {}}]}
        yield {"containers": [container()], "serviceAccountName": text}
        yield {"containers": [container()], "imagePullSecrets": [{"name": text}]}


def pod(name: str, spec: JsonObject, **metadata: str) -> JsonObject:
    spec = {"nodeName": VICTIM, "tolerations": [{"operator": "Exists"}], **spec}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", **metadata},
        "spec": {"terminationGracePeriodSeconds": 0, **spec},
    }


async def runs(system: System, name: str) -> bool:
    told = await system.fedge("get", "pod", name, "-o", "json")
    return bool(json.loads(told)["status"].get("phase") == "Running")


async def edge_still_works(system: System, tmp_path: Path) -> None:
    """Have a pod run, and end it."""
    name, file = f"sound-{secrets.token_hex(3)}", tmp_path / "sound.json"
    file.write_text(json.dumps(pod(name, {"containers": [container()]})))
    await system.fedge("apply", "-f", str(file))
    await until(lambda: runs(system, name), "an honest pod runs after the attacks")
    await system.fedge("delete", "pod", name, "--now")


async def test_who_may_create_objects_gets_nowhere_else_by_them(
    system: System, tmp_path: Path, trace: Path
) -> None:
    bait = {"apiVersion": "v1", "metadata": {"name": "bait", "namespace": "default"}}
    data = {"k": "dmFsdWU="}
    objects: list[JsonObject] = [
        {**bait, "kind": "ConfigMap", "binaryData": data},
        {**bait, "kind": "Secret", "data": data},
        *(pod(f"hostile-{n}", spec) for n, spec in enumerate(hostile_pods(trace))),
    ]
    for text in (f"{UP}{str(trace)[1:]}", *commands(trace)):
        named = {"name": text, "namespace": "default"}
        objects.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": named})
        evil = {**bait, "kind": "ConfigMap", "metadata": {"name": "evil", "namespace": "default"}}
        objects.append({**evil, "data": {text: "x"}})
    file = tmp_path / "hostile.json"
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
    try:
        with pytest.raises(CommandFailedError):  # the API takes some of them and refuses others
            await system.fedge("apply", "-f", str(file))
        await edge_still_works(system, tmp_path)
        assert not got_through(trace)
    finally:
        names = [each["metadata"]["name"] for each in objects if each["kind"] == "Pod"]
        with contextlib.suppress(CommandFailedError):  # those that were refused are not there
            await system.fedge("delete", "pod", *names, "--now")


@asynccontextmanager
async def cloud(system: System) -> AsyncIterator[aiormq.abc.AbstractChannel]:
    connection = await aiormq.connect(system.stack.amqp_url)
    try:
        yield await connection.channel(publisher_confirms=True)
    finally:
        await connection.close()


async def put_into_the_link(
    channel: aiormq.abc.AbstractChannel, key: ObjectKey, obj: JsonObject | None
) -> None:
    envelope = envelope_of(Change(key=key, version=VERSION, object=obj), source="/cloud/hub")
    body, encoding = envelope.body()
    await channel.basic_publish(
        body,
        exchange=t.DOWN,
        routing_key=str(Address.of_object(VICTIM, ObjectKey(key.resource, "default", "x"))),
        properties=aiormq.spec.Basic.Properties(
            headers=dict(envelope.headers()),
            content_type="application/json",
            content_encoding=encoding,
            message_id=secrets.token_hex(8),
            message_type=envelope.type,
            delivery_mode=2,
        ),
    )


async def test_not_even_the_cloud_gets_out_of_its_folders_at_the_edge(
    system: System, tmp_path: Path, trace: Path
) -> None:
    out = f"{UP}{str(trace)[1:]}"
    services = system.stack.edge(VICTIM).parts.services
    before = services.log.stat().st_size
    async with cloud(system) as channel:
        for number, text in enumerate((out, "..", str(trace), *commands(trace))):
            for key, obj in (
                (ObjectKey("configmaps", "default", f"h-{number}"), {"data": {text: "x"}}),
                (ObjectKey("secrets", "default", f"h-{number}"), {"data": {text: "eA=="}}),
                (
                    ObjectKey("devicecredentials", "default", f"h-{number}"),
                    {"spec": {"hashingAlgorithm": text, "passwordHash": text, "user": text}},
                ),
                (
                    ObjectKey("devices", "default", f"h-{number}"),
                    {"spec": {"deviceModelRef": {"name": text}, "properties": [{"name": text}]}},
                ),
            ):
                metadata = {"name": key.name, "namespace": "default", "uid": text}
                await put_into_the_link(channel, key, {**obj, "metadata": metadata})
            reads = {"configMap": {"name": f"h-{number}"}}
            spec = mounting(reads)
            spec["volumes"] += [{"name": "w", "secret": {"secretName": f"h-{number}"}}]
            # a folder of its own is called by the uid of a pod, and its log by all three
            for uid, namespace, name in (
                (text, "default", f"uid-{number}"),
                (f"u-{number}", text, f"ns-{number}"),
                (f"v-{number}", "default", text),
            ):
                try:
                    key = ObjectKey("pods", namespace, name)
                except ValueError:
                    continue  # nothing can be said about such a thing at all
                hostile = pod(name, spec, uid=uid)
                hostile["metadata"]["namespace"] = namespace
                await put_into_the_link(channel, key, hostile)
            await put_into_the_link(
                channel, ObjectKey("pods", "default", f"r-{number}"),
                pod(f"r-{number}", spec, uid=f"r-{number}"),
            )  # fmt: skip
        await edge_still_works(system, tmp_path)
        assert not got_through(trace)
        said = await asyncio.to_thread(services.log.read_text)
        assert "uid-0" in said[before:]
        # nor are there folders beside those of pods
        data = system.stack.kubeconfig.parent / "edges" / VICTIM / "data"
        known = {"pods", "identity", "api", "edged.incarnation", "begun.db"}
        others = {each.name for each in data.iterdir()} - known
        assert {each for each in others if ".db" not in each and ".key" not in each} == set()
        for number in range(20):
            for resource in ("pods", "configmaps", "secrets", "devices", "devicecredentials"):
                for name in (f"h-{number}", f"r-{number}", f"uid-{number}"):
                    await put_into_the_link(channel, ObjectKey(resource, "default", name), None)


async def test_nobody_joins_as_a_path_or_a_command(system: System, trace: Path) -> None:
    token = await system.token("--uses=100")
    for text in (f"{UP}{str(trace)[1:]}", "..", "a/b", "a%2fb", ".*", *commands(trace)):
        with pytest.raises(RefusedError) as refused:
            await system.join(text, token)
        assert refused.value.code == "node_name_invalid"
        with pytest.raises(CommandFailedError):
            await system.fedge("node", "revoke", text)
    assert not got_through(trace)


async def test_hub_answers_no_path_that_leads_elsewhere(system: System, trace: Path) -> None:
    headers = {"Authorization": f"Bearer {system.state['password']}"}
    async with httpx.AsyncClient(trust_env=False, headers=headers) as client:
        for hostile in (f"{UP}etc/passwd", "..", "..%2f..%2fetc%2fpasswd", *commands(trace)):
            text = quote(hostile, safe="")
            for path in (
                f"nodes/{VICTIM}/containerLogs/default/{text}/main",
                f"nodes/{VICTIM}/containerLogs/default/none/{text}",
                f"nodes/{VICTIM}/containerLogs/{text}/none/main",
                f"nodes/{text}/status",
            ):
                answer = await client.get(f"{system.stack.hub_url}/{path}", timeout=30)
                assert answer.status_code in {400, 404}, (path, answer.text)
                assert "root:" not in answer.text
    assert not got_through(trace)
