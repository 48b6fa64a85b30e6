"""Finds in the code what is consumed, so that nothing new stays without a test."""

import ast
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[3]


def subscriptions() -> Counter[str]:
    """Return the handlers that queues are given to anywhere in the sources, and how often."""
    found: Counter[str] = Counter()
    for path in [*ROOT.glob("libs/*/src/**/*.py"), *ROOT.glob("services/*/src/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(
                    func=ast.Attribute(attr="subscribe"), args=[_, ast.Attribute(attr=handler)]
                ):
                    found[f"{_module(path)}.{handler}"] += 1
                case ast.Call(
                    func=ast.Attribute(attr="subscribe"), args=[ast.Name(id="fabric"), _]
                ):
                    continue  # a service that has its handlers subscribe
                case ast.Call(func=ast.Attribute(attr="subscribe"), args=[_, _]):
                    # not one of ours reads so: say it in the same way as the others do
                    found[f"{_module(path)}:{node.lineno}"] += 1
    return found


def _module(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[parts.index("src") + 1 :])
