"""The bill of materials of an image, in SPDX 2.3 (https://spdx.github.io/spdx-spec/v2.3/)."""

import hashlib
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from images.debian import RELEASE, Package
from images.layers import EPOCH
from images.python import Wheel

_NOT_SAID = "NOASSERTION"


def bill(
    *,
    name: str,
    version: str,
    architecture: str,
    debian: Iterable[Package],
    python: Iterable[Wheel],
) -> bytes:
    """Return what an image holds: each package with its version and the hash of its file.

    Args:
        name: of the image.
        version: of the image.
        architecture: as Debian calls it.
        debian: its Debian packages.
        python: its Python packages, fedge's own among them.
    """
    packages = [
        _package(
            f"deb-{each.name}",
            each.name,
            each.version,
            each.sha256,
            f"pkg:deb/debian/{each.name}@{quote(each.version, safe='')}"
            f"?arch={each.architecture}&distro={RELEASE}",
        )
        for each in debian
    ]
    packages += [
        _package(
            f"python-{each.name}",
            each.name,
            each.version,
            each.sha256,
            f"pkg:pypi/{each.name}@{each.version}",
        )
        for each in python
    ]
    content = hashlib.sha256(json.dumps(packages, sort_keys=True).encode()).hexdigest()
    image = {
        "SPDXID": "SPDXRef-image",
        "name": name,
        "versionInfo": version,
        "downloadLocation": _NOT_SAID,
        "filesAnalyzed": False,
        "primaryPackagePurpose": "CONTAINER",
    }
    document = {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": f"{name}-{architecture}",
        "documentNamespace": f"urn:fedge:sbom:{name}:{architecture}:{content}",
        "creationInfo": {
            "created": datetime.fromtimestamp(EPOCH, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "creators": ["Tool: fedge-images"],
        },
        "packages": [image, *packages],
        "relationships": [
            _relation("SPDXRef-DOCUMENT", "DESCRIBES", "SPDXRef-image"),
            *(_relation("SPDXRef-image", "CONTAINS", each["SPDXID"]) for each in packages),
        ],
    }
    return json.dumps(document, indent=1, sort_keys=True).encode() + b"\n"


def _package(reference: str, name: str, version: str, sha256: str, url: str) -> dict[str, Any]:
    allowed = "".join(each if each.isalnum() or each in ".-" else "-" for each in reference)
    return {
        "SPDXID": f"SPDXRef-{allowed}",
        "name": name,
        "versionInfo": version,
        "downloadLocation": _NOT_SAID,
        "filesAnalyzed": False,
        "checksums": [{"algorithm": "SHA256", "checksumValue": sha256}],
        "externalRefs": [
            {
                "referenceCategory": "PACKAGE-MANAGER",
                "referenceType": "purl",
                "referenceLocator": url,
            }
        ],
    }


def _relation(one: str, kind: str, other: str) -> dict[str, str]:
    return {"spdxElementId": one, "relationshipType": kind, "relatedSpdxElement": other}
