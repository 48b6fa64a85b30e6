"""What was acknowledged outlives a kill, and a watch goes on where it was."""

import json
import os
import random
import secrets
import threading
from pathlib import Path
from typing import Any

import httpx

from tests.integration.apiserver.servers import ApiServer, connect
from tests.integration.apiserver.test_conformance_objects import config_map, made, maps

KILLS = int(os.environ.get("FEDGE_TEST_KILLS", "3"))
WRITERS = 4
WRITES_BEFORE_KILL = 60


class Writer:
    """Writes to objects of its own, and remembers what was acknowledged and what may be."""

    def __init__(self, kubeconfig: Path, index: int, seed: int) -> None:
        self._kubeconfig = kubeconfig
        self._index = index
        self._random = random.Random(seed)  # noqa: S311 - repeatable, not secret
        self.acknowledged: dict[str, str | None] = {}
        self.doubtful: dict[str, str | None] = {}
        self.count = 0

    def run(self, enough: threading.Event) -> None:
        with connect(self._kubeconfig) as api:
            while True:
                name = f"w{self._index}-{self._random.randrange(8)}"
                value = str(self._random.randrange(10**9))
                held = self.acknowledged.get(name)
                wanted = None if held is not None and self._random.random() < 0.3 else value
                self.doubtful = {name: wanted}
                try:
                    self._write(api, name, wanted, is_new=held is None)
                except httpx.TransportError:
                    return
                self.acknowledged[name] = wanted
                self.doubtful = {}
                self.count += 1
                if self.count >= WRITES_BEFORE_KILL:
                    enough.set()

    def _write(self, api: httpx.Client, name: str, value: str | None, *, is_new: bool) -> None:
        if value is None:
            answer = api.delete(maps("default", name))
        elif is_new:
            answer = api.post(maps("default"), json=config_map(name, v=value))
        else:
            answer = api.put(maps("default", name), json=config_map(name, v=value))
        assert answer.status_code in (200, 201), answer.text

    def settle(self, state: dict[str, str]) -> None:
        """Check the state after a kill, and take over what was in doubt."""
        for name, value in self.acknowledged.items():
            if name in self.doubtful:
                assert state.get(name) in (value, self.doubtful[name])
                continue
            assert state.get(name) == value, f"{name} was acknowledged as {value}"
        for name in self.doubtful:
            self.acknowledged[name] = state.get(name)
        self.doubtful = {}
        self.count = 0


def read_state(api: httpx.Client) -> tuple[dict[str, str], str]:
    listing = made(api.get(maps("default")))
    state = {
        item["metadata"]["name"]: item["data"]["v"]
        for item in listing["items"]
        if "v" in item.get("data", {})
    }
    return state, listing["metadata"]["resourceVersion"]


class Watcher:
    """Follows a resource across restarts, never listing but at the very beginning."""

    def __init__(self, kubeconfig: Path) -> None:
        self._kubeconfig = kubeconfig
        self.view: dict[str, str] = {}
        self.versions: list[int] = []
        with connect(kubeconfig) as api:
            self.view, self.version = read_state(api)

    def follow(self, until: int | None) -> None:
        """Watch until the server is gone, or until a version is reached."""
        query = {"watch": "true", "resourceVersion": self.version, "allowWatchBookmarks": "true"}
        if until is not None:
            query["timeoutSeconds"] = "1"
        try:
            with (
                connect(self._kubeconfig) as api,
                api.stream("GET", maps("default"), params=query) as answer,
            ):
                for line in answer.iter_lines():
                    self._take(json.loads(line))
        except httpx.TransportError:
            assert until is None

    def _take(self, event: dict[str, Any]) -> None:
        assert event["type"] != "ERROR", event
        value = event["object"]
        self.version = value["metadata"]["resourceVersion"]
        if event["type"] == "BOOKMARK":
            return
        self.versions.append(int(self.version))
        name = value["metadata"]["name"]
        if event["type"] == "DELETED":
            assert self.view.pop(name) == value["data"]["v"]
        else:
            assert (event["type"] == "ADDED") == (name not in self.view)
            self.view[name] = value["data"]["v"]


def test_kills_lose_no_acknowledged_write_and_no_watch_event(tmp_path: Path) -> None:
    seed = int(os.environ.get("FEDGE_TEST_SEED", "0")) or secrets.randbelow(10**6)
    server = ApiServer(tmp_path)
    server.start()
    writers = [Writer(server.kubeconfig, index, seed + index) for index in range(WRITERS)]
    watcher = Watcher(server.kubeconfig)
    try:
        for _ in range(KILLS):
            enough = threading.Event()
            threads = [threading.Thread(target=writer.run, args=(enough,)) for writer in writers]
            threads.append(threading.Thread(target=watcher.follow, args=(None,)))
            for thread in threads:
                thread.start()
            assert enough.wait(20)
            server.kill()
            for thread in threads:
                thread.join(20)
            server.start()
            with connect(server.kubeconfig) as api:
                state, _ = read_state(api)
            for writer in writers:
                writer.settle(state)
        with connect(server.kubeconfig) as api:
            state, version = read_state(api)
        watcher.follow(int(version))
    except AssertionError as exc:
        exc.add_note(f"repeat it with FEDGE_TEST_SEED={seed}")
        raise
    finally:
        server.stop()
    assert watcher.view == state
    assert watcher.versions == sorted(set(watcher.versions))
