"""Write the field numbers of the built-in kinds in Kubernetes' protobuf encoding.

The source is a kubectl of at most 1.34, which carries the descriptors of the API's messages. The
result is committed beside the table of fields, to which it only adds numbers. Run it again after
``scripts/generate_schemas.py`` found new types::

    python scripts/generate_protobuf.py /path/to/kubectl
"""

import json
import re
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto
from google.protobuf.message import DecodeError

SCHEMA = Path(__file__).parent.parent / "libs/apiserver/src/fedge_apiserver/schema"
TARGET = SCHEMA / "protobuf.json"
PACKAGES = (
    "k8s.io.apimachinery.pkg.apis.meta.v1",
    *(
        f"k8s.io.api.{group}.v1"
        for group in (
            "core",
            "apps",
            "authentication",
            "authorization",
            "autoscaling",
            "batch",
            "coordination",
            "events",
            "policy",
            "rbac",
        )
    ),
)
PREFIXES = {
    "AuthenticationV1": "authentication",
    "CoreV1": "core",
    "EventsV1": "events",
    "RbacV1": "rbac",
}
"""How the table of fields tells apart types of one name in several groups."""

_LONGEST = 1 << 20


def descriptors(program: bytes) -> Iterator[FileDescriptorProto]:
    """Yield the compressed file descriptors in a program."""
    for found in re.finditer(rb"\x1f\x8b\x08", program):
        try:
            raw = zlib.decompressobj(31).decompress(program[found.start() :][:_LONGEST], _LONGEST)
            yield FileDescriptorProto.FromString(raw)
        except (zlib.error, DecodeError):
            continue


def numbers(message: DescriptorProto, fields: set[str]) -> dict[str, str]:
    """Return the fields by number; ``*Type`` is a message whose fields JSON puts in its parent."""
    found: dict[str, str] = {}
    for field in message.field:
        if field.name in fields:
            found[str(field.number)] = field.name
        elif field.type_name:
            found[str(field.number)] = "*" + field.type_name.rpartition(".")[2]
    return found


def main() -> None:
    """Write the file."""
    if len(sys.argv) != 2:  # noqa: PLR2004 - the program's one argument
        raise SystemExit(__doc__)
    messages: dict[str, dict[str, DescriptorProto]] = {}
    for file in descriptors(Path(sys.argv[1]).read_bytes()):
        if file.package in PACKAGES:
            for message in file.message_type:
                messages.setdefault(message.name, {})[file.package] = message
    if not messages:
        raise SystemExit(f"{sys.argv[1]} carries no descriptors: take a kubectl of at most 1.34")
    types = json.loads((SCHEMA / "builtin.json").read_text())["types"]
    written: dict[str, dict[str, str]] = {}
    for name, held in types.items():
        prefix = next((each for each in PREFIXES if name.startswith(each)), "")
        packages = messages.get(name.removeprefix(prefix), {})
        wanted = f"k8s.io.api.{PREFIXES[prefix]}.v1" if prefix else None
        found = packages.get(wanted or next((p for p in PACKAGES if p in packages), ""))
        if found is None:
            continue
        fields = set(held["f"])
        written[name] = numbers(found, fields)
        for text in written[name].values():
            if text.startswith("*") and text[1:] not in types:
                for inner in messages[text[1:]].values():
                    written[text[1:]] = numbers(inner, fields)
    data = json.dumps(written, separators=(",", ":"), sort_keys=True)
    TARGET.write_text(data + "\n")
    print(f"{TARGET.name}: {len(written)} messages, {TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main()
