"""Write the broker definitions of the dev overlay anew, as the code makes them."""

import json
from pathlib import Path

from fedge_fabric.definitions import User, cloud_definitions
from fedge_objects import NodeName

TARGET = Path(__file__).resolve().parents[1] / "deploy/k8s/overlays/dev/definitions.json"


def main() -> None:
    """Write the file; hashes of passwords are salted and so change each time."""
    definitions = cloud_definitions(
        admin=User(name="fedge", password="fedge-dev"),  # noqa: S106 - for a developer's machine
        nodes={NodeName("edge-1"): User(name="edge-1", password="edge-1-dev")},  # noqa: S106
    )
    TARGET.write_text(json.dumps(definitions, indent=2) + "\n")


if __name__ == "__main__":
    main()
