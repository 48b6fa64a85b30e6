"""The server's version, asked for without the client library: this answer is wanted at once."""

import json
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import urlsplit

from fedge_cli.errors import AwayError, CommandError
from fedge_cli.kubeconfig import Access

TIMEOUT_SECONDS = 5.0


def server_version(access: Access) -> str:
    """Return the Kubernetes version that the server says it is.

    Raises:
        AwayError: it does not answer.
        CommandError: its answer is none.
    """
    url = urlsplit(access.server)
    headers = {"Authorization": f"Bearer {access.token}"} if access.token else {}
    host, port = url.hostname or "", url.port
    connection = (
        HTTPConnection(host, port, timeout=TIMEOUT_SECONDS)
        if access.context is None
        else HTTPSConnection(host, port, timeout=TIMEOUT_SECONDS, context=access.context)
    )
    try:
        connection.request("GET", f"{url.path}/version", headers=headers)
        return str(json.load(connection.getresponse())["gitVersion"])
    except (OSError, HTTPException) as exc:
        raise AwayError(f"the server {access.server} does not answer: {exc}") from exc
    except (ValueError, KeyError, TypeError) as exc:
        raise CommandError(f"the server {access.server} does not tell its version") from exc
    finally:
        connection.close()
