"""The server's HTTP side: requests in, answers and streams out, over the registry."""

from fedge_apiserver.http._app import ApiApplication
from fedge_apiserver.http._authentication import PEER

__all__ = ["PEER", "ApiApplication"]
