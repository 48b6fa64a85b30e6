"""Tokens of service accounts at a node, in virtual time."""

import asyncio
import base64
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from fedge_edged.errors import MountError
from fedge_edged.pods import ServiceAccountTokenSource
from fedge_edged.tokens import OFFLINE_SECONDS, NodeTokens, Wish
from fedge_sealing import NodeSeal
from tests.unit.edged.kit import EPOCH, LoopClock, pod

pytestmark = pytest.mark.looptime

SOURCE = ServiceAccountTokenSource(path="token", audience="vault", expiration_seconds=1000)
POD = pod("a")


def now() -> float:
    return asyncio.get_running_loop().time()


def jwt(number: int) -> str:
    claims = {"sub": "system:serviceaccount:default:default", "aud": ["vault"], "number": number}
    middle = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return f"head.{middle}.signature"


def claims_of(token: str) -> dict[str, Any]:
    middle = token.split(".")[1]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))
    return found


class Cloud:
    """Issues tokens, unless it is away."""

    def __init__(self, folder: Path, *, offline: bool = True) -> None:
        self.folder = folder
        self.offline = offline
        self.asked: list[float] = []
        self.renewed: list[float] = []
        self.is_away = False
        self.alive = {"uid-a"}
        self.count = 0
        self.restart()

    def restart(self) -> None:
        self.tokens = NodeTokens(
            folder=self.folder,
            key_file=self.folder / "token.key",
            issuers_file=self.folder / "api" / "issuers.json",
            node="edge-1",
            clock=LoopClock(),
            offline=self.offline,
            seal=NodeSeal(self.folder / "sealing.key", joined=self.folder / "joined"),
            renewed=lambda _: self.renewed.append(now()),
        )

    async def ask(self, wish: Wish) -> None:
        self.asked.append(now())
        if not self.is_away:
            self.count += 1
            self.tokens.take(self.issued(wish))

    def issued(self, wish: Wish, seconds: float = 1000) -> dict[str, Any]:
        expires = datetime.fromtimestamp(EPOCH + now() + seconds, UTC)
        return {
            "uid": wish.uid,
            "service_account": wish.service_account,
            "audience": wish.audience,
            "seconds": wish.seconds,
            "token": jwt(self.count),
            "expires": expires.isoformat(),
        }

    def run(self) -> asyncio.Task[None]:
        return asyncio.create_task(self.tokens.run(self.ask, lambda: self.alive))

    def token(self) -> str:
        return self.tokens.token(POD, SOURCE)


async def end(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_pod_waits_for_its_token_and_then_has_it(tmp_path: Path) -> None:
    cloud = Cloud(tmp_path)
    running = cloud.run()
    with pytest.raises(MountError, match="waiting for the cloud"):
        cloud.token()
    await asyncio.sleep(0.1)
    assert cloud.token() == jwt(1)
    assert len(cloud.renewed) == 1
    await end(running)


async def test_token_is_renewed_at_four_fifths_of_its_life(tmp_path: Path) -> None:
    cloud = Cloud(tmp_path)
    running = cloud.run()
    with pytest.raises(MountError):
        cloud.token()
    await asyncio.sleep(2500)
    assert [round(each) for each in cloud.asked] == [0, 800, 1600, 2400]
    assert cloud.token() == jwt(4)
    await end(running)


async def test_token_outlives_a_restart_with_the_cloud_away(tmp_path: Path) -> None:
    cloud = Cloud(tmp_path)
    running = cloud.run()
    with pytest.raises(MountError):
        cloud.token()
    await asyncio.sleep(1)
    await end(running)
    cloud.is_away = True
    cloud.restart()
    assert cloud.token() == jwt(1)
    [path] = files(tmp_path)
    assert path.stat().st_mode & 0o777 == 0o600


def files(folder: Path) -> list[Path]:
    return list(folder.glob("*/tokens/*"))


async def test_node_signs_when_the_token_ran_out_and_the_cloud_is_away(tmp_path: Path) -> None:
    cloud = Cloud(tmp_path)
    running = cloud.run()
    with pytest.raises(MountError):
        cloud.token()
    await asyncio.sleep(1)
    cloud.is_away = True
    await asyncio.sleep(998)
    assert cloud.token() == jwt(1)
    cloud.renewed.clear()
    await asyncio.sleep(5)
    assert [round(each) for each in cloud.renewed] == [1000]
    claims = claims_of(cloud.token())
    assert claims["iss"] == "fedge://edge-1"
    assert claims["sub"] == "system:serviceaccount:default:default"
    assert claims["exp"] - claims["iat"] == OFFLINE_SECONDS
    # and again in time
    await asyncio.sleep(OFFLINE_SECONDS)
    assert claims_of(cloud.token())["iat"] > claims["iat"]
    cloud.is_away = False
    await asyncio.sleep(120)
    assert cloud.token() == jwt(2)
    await end(running)


async def test_node_that_must_not_sign_keeps_the_old_token(tmp_path: Path) -> None:
    cloud = Cloud(tmp_path, offline=False)
    running = cloud.run()
    with pytest.raises(MountError):
        cloud.token()
    await asyncio.sleep(1)
    cloud.is_away = True
    await asyncio.sleep(5000)
    assert cloud.token() == jwt(1)
    await end(running)


async def test_cloud_that_is_away_is_asked_ever_less_often(tmp_path: Path) -> None:
    cloud = Cloud(tmp_path)
    cloud.is_away = True
    running = cloud.run()
    with pytest.raises(MountError):
        cloud.token()
    await asyncio.sleep(200)
    assert [round(each) for each in cloud.asked] == [0, 5, 15, 35, 75, 135, 195]
    await end(running)


async def test_nothing_is_asked_for_a_pod_that_is_gone(tmp_path: Path) -> None:
    cloud = Cloud(tmp_path)
    running = cloud.run()
    with pytest.raises(MountError):
        cloud.token()
    await asyncio.sleep(1)
    cloud.alive.clear()
    await asyncio.sleep(5000)
    assert len(cloud.asked) == 1
    await end(running)


async def test_answer_that_nobody_asked_for_is_passed_over(tmp_path: Path) -> None:
    cloud = Cloud(tmp_path)
    wish = Wish(uid="other", namespace="d", pod="p", service_account="s", audience="", seconds=600)
    cloud.tokens.take(cloud.issued(wish))
    assert cloud.renewed == []
    assert files(tmp_path) == []
