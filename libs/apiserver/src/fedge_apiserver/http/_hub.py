"""The way to nodes: the hub, which asks them or knows what they said last."""

from typing import TYPE_CHECKING
from urllib.parse import quote

from fedge_apiserver.errors import ApiError, bad_request

if TYPE_CHECKING:
    import httpx

_CONNECT_SECONDS = 10.0


class Hub:
    """The hub at a URL; None if there is no hub."""

    def __init__(self, url: str | None, token: str = "") -> None:
        """Prepare; nothing is connected yet.

        Args:
            url: ``http://host:port``; None: there is no hub.
            token: what hub wants to see of who reaches into nodes; empty: nothing.
        """
        self._url = url.rstrip("/") if url else None
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._client: httpx.AsyncClient | None = None

    def url(self, *parts: str) -> str:
        """Return the URL of a path.

        Raises:
            ApiError: 503, there is no hub.
        """
        if self._url is None:
            raise no_way(
                "this API server knows no hub, so there is no way to the node: set "
                "FEDGE_APISERVER_HUB_URL and start it again"
            )
        return "/".join((self._url, *(quote(part, safe="") for part in parts)))

    def client(self) -> "httpx.AsyncClient":
        """Return the client for all requests; an answer may be silent for as long as it likes."""
        import httpx  # noqa: PLC0415 - a tenth of a second and megabytes that few servers need

        if self._client is None:
            # A log that is followed may be silent for hours, but a connection must come at once.
            timeout = httpx.Timeout(_CONNECT_SECONDS, read=None)
            self._client = httpx.AsyncClient(timeout=timeout, trust_env=False, headers=self.headers)
        return self._client

    def unreachable(self, cause: Exception) -> ApiError:
        """Return what to answer when the hub does not."""
        return no_way(
            f"the hub at {self._url} cannot be reached: {type(cause).__name__} {cause}; "
            "check that it runs (fedge run hub)"
        )

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None


def no_way(message: str) -> ApiError:
    """503: the node, or the hub on the way to it, is away."""
    # Without Retry-After: with it kubectl tries for ten seconds before it shows the message.
    return ApiError(503, "ServiceUnavailable", message)


def refusal(code: int, reason: str) -> ApiError:
    """Return what to answer when the hub refuses."""
    match code:
        case 400:
            return bad_request(reason)
        case 404:
            return ApiError(404, "NotFound", reason)
        case 503 | 504:
            return no_way(reason)
        case 401 | 403:
            return no_way(f"the hub refuses this API server: {reason}")
        case _:
            return ApiError(500, "InternalError", f"the hub answered {code}: {reason}")
