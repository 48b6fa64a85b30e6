"""The server's HTTP side: requests in, answers and streams out, over the registry."""

from fedge_apiserver.http._app import ApiApplication, Elsewhere
from fedge_apiserver.http._authentication import PEER, Accounts
from fedge_apiserver.http._messages import Request
from fedge_apiserver.http._writing import Writing

__all__ = ["PEER", "Accounts", "ApiApplication", "Elsewhere", "Request", "Writing"]
