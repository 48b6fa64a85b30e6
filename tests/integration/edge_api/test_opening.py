"""Nothing that comes while the view is being built is missing from it."""

import asyncio
from pathlib import Path

import httpx
import pytest
import yaml

from fedge_fabric.effects import Effects
from fedge_meta.api.endpoint import LOOPBACK
from fedge_meta.api.serving import Api
from fedge_meta.keeping import Keeping
from fedge_meta.settings import MetaSettings
from fedge_objects import Change, NodeName, ObjectKey, Version
from fedge_sealing import NodeSeal
from fedge_service import EdgeSettings, backoff
from fedge_store import ObjectStore
from tests.fixtures.servers import free_ports
from tests.unit.bad_input.line import Line

NODE = NodeName("edge-1")
BEFORE, MEANWHILE = 800, 100
MAPS = "/api/v1/namespaces/default/configmaps"


def config_map(number: int) -> Change:
    name = f"map-{number}"
    obj = {"metadata": {"name": name, "namespace": "default", "uid": name}, "data": {}}
    key = ObjectKey("configmaps", "default", name)
    return Change(key=key, version=Version(number + 1, number + 1), object=obj)


@pytest.mark.timeout(60)
async def test_what_comes_while_the_first_connection_waits_is_shown(tmp_path: Path) -> None:
    [port] = free_ports(1)
    edge = EdgeSettings(node_name=NODE, data_dir=tmp_path)
    settings = MetaSettings(edge=edge, api_port=port, api_address="")
    seal = NodeSeal(edge.sealing_key_file, joined=edge.joined_file)
    async with ObjectStore.opened(tmp_path / "meta.db") as store:
        keeping = Keeping(node=NODE, store=store, seal=seal, effects=Effects(NODE, "meta"))
        for number in range(BEFORE):
            await store.apply(config_map(number), [])
        api = Api(
            settings, store=store, seal=seal, keeping=keeping, fabric=Line().fabric, replica="1"
        )
        running = asyncio.create_task(api.run())
        try:
            async for _ in backoff(first_seconds=0.05, most_seconds=0.2):
                if (tmp_path / "api" / "endpoint.json").exists():
                    break
            config = yaml.safe_load((tmp_path / "api" / "kubeconfig").read_text())
            token = config["users"][0]["user"]["token"]
            async with httpx.AsyncClient(
                base_url=f"https://{LOOPBACK}:{port}", verify=False, timeout=30, trust_env=False,  # noqa: S501 - who answers is not what is tried
                headers={"authorization": f"Bearer {token}"},
            ) as root:  # fmt: skip
                asking = asyncio.create_task(root.get(MAPS))
                for number in range(BEFORE, BEFORE + MEANWHILE):
                    await keeping.keep(config_map(number))
                assert (await asking).status_code == 200
                async for _ in backoff(first_seconds=0.05, most_seconds=0.2):
                    if len((await root.get(MAPS)).json()["items"]) == BEFORE + MEANWHILE:
                        break
        finally:
            running.cancel()
            await asyncio.wait({running})
