"""HTTP connections that remember by whose certificate they were made.

ASGI has no field for it that uvicorn fills; a connection's state is the place for what holds for
all of its requests.
"""

import asyncio
from typing import cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from fedge_apiserver.http import PEER


class PeerProtocol(HttpToolsProtocol):
    """uvicorn's protocol, with the client's verified certificate in ``scope["state"]``."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note the certificate, once for the connection."""
        super().connection_made(cast("asyncio.Transport", transport))
        session = transport.get_extra_info("ssl_object")
        peer = session.getpeercert() if session is not None else None
        if peer:
            self.app_state = {**self.app_state, PEER: peer}
