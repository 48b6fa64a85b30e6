"""Make the API's files: ``python -m fedge_meta.api FOLDER ADDRESS PORT``."""

import sys
import time
from pathlib import Path

from fedge_meta.api.endpoint import DAY_SECONDS, RENEW_DAYS, ApiFolder, Endpoint

if __name__ == "__main__":
    folder, address, port = sys.argv[1:]
    renew_after = time.time() + RENEW_DAYS * DAY_SECONDS - 1
    try:
        ApiFolder(Path(folder).parent).make(
            Endpoint(address=address, port=int(port), renew_after=renew_after)
        )
    except (OSError, ValueError) as exc:
        sys.exit(f"the files of the edge's API cannot be made in {folder}: {exc}")
