"""Hub's HTTP port: who reaches into nodes by it."""

import httpx
import pytest

from tests.security.conftest import VICTIM, System

pytestmark = [
    pytest.mark.stack,
    pytest.mark.broker,
    pytest.mark.redis,
    pytest.mark.containerd,
    pytest.mark.timeout(300),
]


async def test_who_has_no_token_reaches_into_no_node(system: System) -> None:
    given = {"Authorization": f"Bearer {system.state['password']}"}
    async with httpx.AsyncClient(
        trust_env=False, timeout=30, base_url=system.stack.hub_url
    ) as client:
        for path in (
            f"/nodes/{VICTIM}/containerLogs/default/none/main",
            f"/nodes/{VICTIM}/deviceHistory/default/none",
            f"/nodes/{VICTIM}/exec/default/none/main?command=id",
        ):
            for headers in ({}, {"Authorization": "Bearer guessed"}, {"Authorization": "Basic x"}):
                answer = await client.get(path, headers=headers)
                assert answer.status_code == 401, (path, headers, answer.text)
                assert "FEDGE_HUB_HTTP_TOKEN" in answer.text
                assert answer.headers["www-authenticate"] == "Bearer"
            answer = await client.get(path, headers=given)
            assert answer.status_code in {400, 404}, (path, answer.text)  # asked, and not there
        for path in ("/livez", "/metrics", f"/nodes/{VICTIM}/status"):
            assert (await client.get(path)).status_code == 200
