"""Tokens of service accounts: asked for, reviewed, and the key to check them by.

https://kubernetes.io/docs/reference/kubernetes-api/authentication-resources/
"""

from datetime import UTC, datetime

from fedge_apiserver.access import User, account_user
from fedge_apiserver.decoding import decode_object
from fedge_apiserver.errors import ApiError, Causes, bad_request, invalid
from fedge_apiserver.http._messages import Request
from fedge_apiserver.registry import Registry
from fedge_apiserver.resources import NODES, PODS, SECRETS, SERVICE_ACCOUNTS, Resource
from fedge_apiserver.store import decode
from fedge_apiserver.tokens import LEAST_SECONDS, Bearer, TokenError, TokenKey, private_claims
from fedge_objects import JsonObject

_BINDABLE = {"Pod": PODS, "Secret": SECRETS, "Node": NODES}
_DEFAULT_SECONDS = 3600
_MOST_CHECKED = 1000


class _TokenRequest:
    """Names a TokenRequest in messages."""

    group = "authentication.k8s.io"
    plural = "tokenrequests"
    kind = "TokenRequest"


class TokenService:
    """Issues tokens and says whether they are valid."""

    def __init__(self, registry: Registry, key: TokenKey) -> None:
        self._registry = registry
        self._key = key
        self._checked: dict[str, JsonObject] = {}
        """Claims of tokens whose signature was good: checking one costs more than a reading."""

    async def issue(self, request: Request, namespace: str, name: str) -> None:
        """Answer a TokenRequest.

        Raises:
            ApiError: 404, there is no such account or object to bind to; 409, that object is not
                the one that is meant; 400, the request is wrong.
        """
        value = await _body(request, "TokenRequest", "AuthenticationV1TokenRequest")
        spec = value.get("spec") or {}
        account = decode(self._registry.get(SERVICE_ACCOUNTS, namespace, name).body)
        bearer = Bearer(
            namespace=namespace,
            name=name,
            uid=account["metadata"]["uid"],
            bound=self._bound(namespace, spec.get("boundObjectRef")),
        )
        seconds = spec.get("expirationSeconds") or _DEFAULT_SECONDS
        if not isinstance(seconds, int):
            raise bad_request("spec.expirationSeconds must be a whole number")
        if seconds < LEAST_SECONDS:
            causes = Causes()
            causes.invalid(
                "spec.expirationSeconds", seconds, "may not specify a duration less than 10 minutes"
            )
            raise invalid(_TokenRequest, "", causes)
        now = int(datetime.now(UTC).timestamp())
        token, expires = self._key.issue(
            bearer, audiences=spec.get("audiences") or (), now=now, seconds=seconds
        )
        when = datetime.fromtimestamp(expires, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        answer = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "metadata": {"name": name, "namespace": namespace, "creationTimestamp": None},
            "spec": {
                **spec,
                "audiences": spec.get("audiences") or [self._key.issuer],
                "expirationSeconds": expires - now,
            },
            "status": {"token": token, "expirationTimestamp": when},
        }
        await request.answer_json(answer, code=201)

    def user(self, token: str) -> User:
        """Return the service account whose token this is, if it is for this server.

        Raises:
            TokenError: it is not valid, or the account or what it is bound to is gone.
        """
        now = int(datetime.now(UTC).timestamp())
        claims = self._checked.get(token)
        if claims is None:
            claims = self._key.check(token, audiences=(), now=now)
            if len(self._checked) >= _MOST_CHECKED:
                self._checked.clear()
            self._checked[token] = claims
        elif now >= claims["exp"]:
            del self._checked[token]
            raise TokenError("it has expired")
        private = private_claims(claims)
        self._check_alive(private)
        return account_user(
            private["namespace"],
            private["serviceaccount"]["name"],
            private["serviceaccount"]["uid"],
        )

    async def review(self, request: Request) -> None:
        """Answer a TokenReview: a token ends with its account and with what it is bound to."""
        value = await _body(request, "TokenReview")
        spec = value.get("spec") or {}
        audiences = list(spec.get("audiences") or ())
        now = int(datetime.now(UTC).timestamp())
        try:
            claims = self._key.check(str(spec.get("token", "")), audiences=audiences, now=now)
            private = private_claims(claims)
            self._check_alive(private)
        except TokenError as exc:
            status: JsonObject = {"error": f"the token is not valid: {exc}", "user": {}}
        else:
            account = private["serviceaccount"]
            user = account_user(private["namespace"], account["name"], account["uid"])
            status = {
                "authenticated": True,
                "audiences": [each for each in claims["aud"] if not audiences or each in audiences],
                "user": user.info(),
            }
        await request.answer_json(
            {
                "apiVersion": "authentication.k8s.io/v1",
                "kind": "TokenReview",
                "metadata": {"creationTimestamp": None},
                "spec": spec,
                "status": status,
            },
            code=201,
        )

    def discovery(self) -> JsonObject:
        """Return where the key is (OpenID Connect Discovery)."""
        return {
            "issuer": self._key.issuer,
            "jwks_uri": f"{self._key.issuer}/openid/v1/jwks",
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        }

    def key_set(self) -> JsonObject:
        """Return the key to check tokens by."""
        return self._key.key_set()

    def _bound(self, namespace: str, reference: JsonObject | None) -> tuple[str, str, str] | None:
        if not reference:
            return None
        kind, name = str(reference.get("kind", "")), str(reference.get("name", ""))
        resource = _BINDABLE.get(kind)
        if resource is None:
            raise bad_request(f"cannot bind a token to an object of the kind {kind!r}")
        where = namespace if resource.namespaced else ""
        found = decode(self._registry.get(resource, where, name).body)["metadata"]["uid"]
        asked = reference.get("uid")
        if asked and asked != found:
            raise ApiError(
                409,
                "Conflict",
                f"the UID in the bound object reference ({asked}) does not match the UID in "
                f"record ({found}). The object might have been deleted and then recreated",
            )
        return kind, name, str(found)

    def _check_alive(self, private: JsonObject) -> None:
        namespace = str(private["namespace"])
        account = private["serviceaccount"]
        self._check_one(SERVICE_ACCOUNTS, namespace, account)
        for kind, resource in _BINDABLE.items():
            bound = private.get(kind.lower())
            if bound:
                self._check_one(resource, namespace if resource.namespaced else "", bound)

    def _check_one(self, resource: Resource, namespace: str, known: JsonObject) -> None:
        try:
            found = decode(self._registry.get(resource, namespace, str(known["name"])).body)
        except ApiError as exc:
            raise TokenError(f"{resource.singular} {known['name']} is gone") from exc
        if found["metadata"]["uid"] != known["uid"]:
            raise TokenError(f"{resource.singular} {known['name']} was made anew")


async def _body(request: Request, kind: str, type_name: str | None = None) -> JsonObject:
    content_type = request.header(b"content-type")
    value, _ = decode_object(await request.body(), content_type, kind, type_name)
    if not isinstance(value.get("spec") or {}, dict):
        raise bad_request(f"the spec of a {kind} is an object")
    return value
