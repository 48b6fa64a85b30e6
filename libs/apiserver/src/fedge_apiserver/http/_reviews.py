"""Questions about what somebody may do.

There are no roles yet: who holds the credentials may do everything, and the answers say so.

https://kubernetes.io/docs/reference/access-authn-authz/authorization/
"""

from fedge_apiserver.decoding import decode_object
from fedge_apiserver.http._messages import Request
from fedge_apiserver.objects import conform_to
from fedge_apiserver.resources import Resource

_REASON = "the API server has one user, who may do everything"


async def review_access(request: Request, resource: Resource) -> None:
    """Answer a SubjectAccessReview or SelfSubjectAccessReview."""
    content_type = request.header(b"content-type")
    value, _ = decode_object(await request.body(), content_type, resource.kind, resource.schema)
    conform_to(resource, value)
    value["metadata"] = {"creationTimestamp": None}
    value["status"] = {"allowed": True, "reason": _REASON}
    await request.answer_json(value, code=201)
