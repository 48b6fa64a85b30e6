"""The API server as a process of its own, so that it can be killed like one."""

import base64
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml

_START_SECONDS = 20
_COMMAND = "from fedge_service import run_services; run_services(['apiserver'])"


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class ApiServer:
    """A server over a data folder; may be killed and started again on the same port."""

    data_dir: Path
    port: int = field(default_factory=free_port)
    environment: dict[str, str] = field(default_factory=dict)
    _process: "subprocess.Popen[str] | None" = None
    _drain: threading.Thread | None = None
    log_lines: list[str] = field(default_factory=list)

    @property
    def kubeconfig(self) -> Path:
        return self.data_dir / "kubeconfig"

    def start(self) -> None:
        """Start it and return when it answers."""
        environment = {
            **os.environ,
            "FEDGE_APISERVER_DATA_DIR": str(self.data_dir),
            "FEDGE_APISERVER_PORT": str(self.port),
            **self.environment,
        }
        process = subprocess.Popen(
            [sys.executable, "-c", _COMMAND],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._process = process
        stderr = process.stderr
        assert stderr is not None
        watchdog = threading.Timer(_START_SECONDS, process.kill)
        watchdog.start()
        try:
            for line in stderr:
                self.log_lines.append(line)
                if '"ready"' in line:
                    break
            else:
                raise AssertionError("the server did not start:\n" + "".join(self.log_lines))
        finally:
            watchdog.cancel()
        self._drain = threading.Thread(target=self._read_log, args=(stderr,), daemon=True)
        self._drain.start()

    def _read_log(self, stderr: Any) -> None:
        with stderr:
            self.log_lines.extend(stderr)

    def kill(self) -> None:
        """End it as a power cut would."""
        self._end(kill=True)

    def stop(self) -> None:
        """End it in order."""
        self._end(kill=False)

    def _end(self, *, kill: bool) -> None:
        if self._process is None:
            return
        if kill:
            self._process.kill()
        else:
            self._process.terminate()
        self._process.wait(20)
        if self._drain is not None:
            self._drain.join(5)
        self._process = None


def connect(kubeconfig: Path) -> httpx.Client:
    """Return a client for the cluster of a kubeconfig's current context."""
    config = yaml.safe_load(kubeconfig.read_text())

    def named(kind: str, name: str) -> dict[str, Any]:
        found: dict[str, Any] = next(i for i in config[f"{kind}s"] if i["name"] == name)[kind]
        return found

    context = named("context", config["current-context"])
    cluster, user = named("cluster", context["cluster"]), named("user", context["user"])
    authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
    tls = ssl.create_default_context(cadata=authority)
    if "client-certificate-data" in user:
        pem = kubeconfig.with_suffix(".client.pem")
        parts = (user["client-certificate-data"], user["client-key-data"])
        pem.write_bytes(b"\n".join(base64.b64decode(part) for part in parts))
        tls.load_cert_chain(pem)
    headers = {"authorization": f"Bearer {user['token']}"} if "token" in user else {}
    return httpx.Client(
        base_url=cluster["server"], verify=tls, headers=headers, timeout=20, trust_env=False
    )


Event = dict[str, Any]


def watch_lines(
    api: httpx.Client, path: str, until: "int | Callable[[Event], bool]", **parameters: str
) -> list[Event]:
    """Return the events of a watch: so many, or up to the one that is waited for."""
    found: list[dict[str, Any]] = []
    query = {"watch": "true", "timeoutSeconds": "15", **parameters}
    with api.stream("GET", path, params=query) as answer:
        assert answer.status_code == 200, answer.read()
        for line in answer.iter_lines():
            if line:
                found.append(json.loads(line))
            if until(found[-1]) if callable(until) else len(found) == until:
                return found
    raise AssertionError(f"the watch ended before what was waited for: {found}")
