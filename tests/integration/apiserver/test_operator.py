"""An operator written with kopf works as it would on any cluster."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.apiserver.greeter import GROUP, PLURAL, VERSION
from tests.integration.apiserver.test_conformance_objects import MERGE, made, maps, refused

DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
SECONDS = 30
OPEN = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


def eventually(ask: Callable[[], Any], what: str) -> None:
    """Return when something holds; the operator works when it likes."""
    end = time.monotonic() + SECONDS
    while not ask():
        assert time.monotonic() < end, what
        time.sleep(0.1)


@pytest.fixture
def greetings(api: httpx.Client, namespace: str) -> Iterator[str]:
    """The path of a kind that the operator looks after."""
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {"plural": PLURAL, "singular": "greeting", "kind": "Greeting"},
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "schema": {
                        "openAPIV3Schema": {
                            "type": "object",
                            "properties": {"spec": OPEN, "status": OPEN},
                        }
                    },
                }
            ],
        },
    }
    made(api.post(DEFINITIONS, json=definition))
    yield f"/apis/{GROUP}/{VERSION}/namespaces/{namespace}/{PLURAL}"
    api.delete(f"{DEFINITIONS}/{PLURAL}.{GROUP}")


@pytest.fixture
def operator(kubeconfig: Path, greetings: str, namespace: str, tmp_path: Path) -> Iterator[Path]:
    """The operator, running; its log."""
    log = tmp_path / "operator.log"
    file = Path(__file__).with_name("greeter.py")
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "kopf", "run", f"--namespace={namespace}", str(file)],
            env={**os.environ, "KUBECONFIG": str(kubeconfig)},
            stdout=output,
            stderr=output,
        )
    try:
        yield log
    finally:
        process.terminate()
        process.wait(SECONDS)


def test_operator_makes_follows_and_lets_go(
    api: httpx.Client, namespace: str, greetings: str, operator: Path
) -> None:
    greeting = {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "Greeting",
        "metadata": {"name": "world"},
        "spec": {"name": "world"},
    }
    made(api.post(greetings, json=greeting))

    def says(text: str) -> bool:
        answer = api.get(maps(namespace, "world"))
        return answer.status_code == 200 and answer.json()["data"]["text"] == text

    eventually(lambda: says("Hello, world!"), operator.read_text())
    held = made(api.get(f"{greetings}/world"))
    assert held["metadata"]["finalizers"]
    eventually(
        lambda: made(api.get(f"{greetings}/world")).get("status", {}).get("greet"),
        operator.read_text(),
    )
    made(api.patch(f"{greetings}/world", json={"spec": {"name": "edge"}}, headers=MERGE))
    eventually(lambda: says("Hello, edge!"), operator.read_text())
    assert api.delete(f"{greetings}/world").status_code == 200
    eventually(lambda: api.get(f"{greetings}/world").status_code == 404, operator.read_text())
    # what it owned goes with it
    eventually(lambda: api.get(maps(namespace, "world")).status_code == 404, "garbage collection")
    refused(api.get(maps(namespace, "world")), 404, "NotFound")
    assert "Traceback" not in operator.read_text()
