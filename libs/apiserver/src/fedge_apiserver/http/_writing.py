"""Create, update, patch, delete.

https://kubernetes.io/docs/reference/using-api/api-concepts/
"""

from dataclasses import replace
from typing import Final

from fedge_apiserver.access import MASTERS, Authorizer, check_escalation
from fedge_apiserver.applying import apply, record_update
from fedge_apiserver.decoding import YAML, decode_json, decode_object, media_type
from fedge_apiserver.errors import (
    ApiError,
    Causes,
    bad_request,
    invalid,
    unsupported_media_type,
)
from fedge_apiserver.http._messages import Request, encode, negotiate
from fedge_apiserver.http._reading import Reading
from fedge_apiserver.kinds import fold_plain_texts
from fedge_apiserver.objects import conform_to, read_view, timestamp, undecodable
from fedge_apiserver.patching import PatchError, apply_operations, merge
from fedge_apiserver.registry import (
    Admit,
    Change,
    DeleteOptions,
    Outcome,
    Registry,
    parse_delete_options,
)
from fedge_apiserver.resources import (
    JOBS,
    NAMESPACES,
    RBAC_GROUP,
    SECRETS,
    Resource,
)
from fedge_apiserver.selectors import parse_selector
from fedge_apiserver.strategic import merge_strategically
from fedge_objects import JsonObject

JSON_PATCH: Final = "application/json-patch+json"
MERGE_PATCH: Final = "application/merge-patch+json"
STRATEGIC_PATCH: Final = "application/strategic-merge-patch+json"
APPLY_PATCH: Final = "application/apply-patch+yaml"

_LONGEST_MANAGER: Final = 128
_RETURNS_DELETED: Final = ("pods", "serviceaccounts")


class _Subject:
    """Names a patch itself as what is invalid."""

    group = ""
    plural = ""
    kind = ""


class Writing:
    """The verbs that change objects."""

    def __init__(self, registry: Registry, reading: Reading, authorizer: Authorizer) -> None:
        self._registry = registry
        self._reading = reading
        self._authorizer = authorizer

    async def create(self, request: Request, resource: Resource, namespace: str) -> None:
        """Make the object in the body."""
        value = await self._object(request, resource)
        outcome = await self._registry.create(
            resource,
            namespace,
            value,
            dry_run=is_trial(request),
            admit=self._admission(request, resource),
        )
        await self._answer(request, resource, outcome)

    async def replace(
        self, request: Request, resource: Resource, namespace: str, name: str, subresource: str
    ) -> None:
        """Put the object in the body in the place of the one that is there."""
        value = await self._object(request, resource)
        if resource is NAMESPACES and subresource == "finalize":
            outcome = await self._registry.finalize_namespace(name, value)
            await self._answer(request, resource, outcome)
            return
        if resource.is_custom and not value["metadata"].get("resourceVersion"):
            causes = Causes()
            causes.invalid("metadata.resourceVersion", 0, "must be specified for an update")
            raise invalid(resource, name, causes)
        outcome = await self._registry.update(
            resource,
            namespace,
            name,
            self._recorded(request, resource, subresource, lambda _: value),
            subresource=subresource,
            dry_run=is_trial(request),
            admit=self._admission(request, resource),
        )
        await self._answer(request, resource, outcome)

    async def patch(
        self, request: Request, resource: Resource, namespace: str, name: str, subresource: str
    ) -> None:
        """Change the object as the body says."""
        body = await request.body()
        kind = media_type(request.header(b"content-type"))
        if kind == APPLY_PATCH:
            await self._apply(request, resource, namespace, name, subresource, body)
            return
        accepted = [JSON_PATCH, MERGE_PATCH]
        if not resource.is_custom:
            accepted.append(STRATEGIC_PATCH)
        accepted.append(APPLY_PATCH)
        if kind not in accepted:
            raise unsupported_media_type(accepted)
        try:
            patch = decode_json(body)
        except ValueError as exc:
            raise bad_request(f"error decoding patch: {exc}") from exc
        if kind != JSON_PATCH and not isinstance(patch, dict):
            raise bad_request("error decoding patch: json: a patch must be an object")

        def change(held: JsonObject) -> JsonObject:
            view = read_view(resource, held)
            try:
                if kind == JSON_PATCH:
                    changed = apply_operations(view, patch)
                elif kind == MERGE_PATCH:
                    changed = merge(view, patch)
                else:
                    changed = merge_strategically(view, patch, resource.schema or "")
            except PatchError as exc:
                raise refused_patch(kind, str(exc)) from exc
            if not isinstance(changed, dict):
                raise bad_request("the patch does not lead to an object")
            unknown = conform_to(resource, changed)
            self._complain(request, [f'unknown field "{path}"' for path in unknown], body)
            return changed

        outcome = await self._registry.update(
            resource,
            namespace,
            name,
            self._recorded(request, resource, subresource, change),
            subresource=subresource,
            dry_run=is_trial(request),
            admit=self._admission(request, resource),
        )
        await self._answer(request, resource, outcome)

    async def _apply(
        self,
        request: Request,
        resource: Resource,
        namespace: str,
        name: str,
        subresource: str,
        body: bytes,
    ) -> None:
        """Server-side apply; makes the object if there is none."""
        manager = request.query.get("fieldManager", "")
        if not manager:
            causes = Causes()
            causes.required("fieldManager", "is required for apply patch")
            raise invalid(_PatchOptions, "", causes)
        wanted, doubled = decode_object(body, YAML, resource.kind)
        for field in ("apiVersion", "kind"):
            if not wanted.get(field):
                raise bad_request(f"error decoding patch: {field} must be set")
        unknown = conform_to(resource, wanted)
        complaints = [*(f'unknown field "{path}"' for path in unknown), *doubled]
        self._complain(request, complaints, body)
        if wanted["metadata"].get("managedFields"):
            raise bad_request("metadata.managedFields must be nil")
        if wanted["metadata"].setdefault("name", name) != name:
            raise bad_request(
                f"the name of the object ({wanted['metadata']['name']}) does not match the name "
                f"on the URL ({name})"
            )
        if resource is SECRETS:
            # Otherwise the applier would own a field that no stored secret has.
            fold_plain_texts(wanted)
        registry = self._registry

        def change(held: JsonObject) -> JsonObject:
            return apply(
                resource,
                read_view(resource, held) if held else {},
                wanted,
                manager=manager,
                force=request.flag("force"),
                subresource=subresource,
                now=timestamp(registry.now()),
            )

        trial = is_trial(request)
        if not subresource and registry.store.head(resource.storage, namespace, name) is None:
            made = change({})
            outcome = await registry.create(
                resource,
                namespace,
                made,
                dry_run=trial,
                keeps_managers=True,
                admit=self._admission(request, resource),
            )
        else:
            outcome = await registry.update(
                resource,
                namespace,
                name,
                change,
                subresource=subresource,
                dry_run=trial,
                admit=self._admission(request, resource),
            )
        await self._answer(request, resource, outcome)

    async def delete(self, request: Request, resource: Resource, namespace: str, name: str) -> None:
        """Delete an object."""
        options, trial = await self._delete_options(request)
        options = _about_dependents(request, resource, options)
        outcome = await self._registry.delete(resource, namespace, name, options, dry_run=trial)
        if not outcome.is_gone or resource.storage in _RETURNS_DELETED:
            await self._answer(request, resource, outcome)
            return
        details = {"name": name, "kind": resource.plural, "uid": outcome.value["metadata"]["uid"]}
        if resource.group:
            details["group"] = resource.group
        await request.answer_json(
            {
                "kind": "Status",
                "apiVersion": "v1",
                "metadata": {},
                "status": "Success",
                "details": details,
            }
        )

    async def delete_all(self, request: Request, resource: Resource, namespace: str) -> None:
        """Delete all objects of a resource that the selectors match."""
        options, trial = await self._delete_options(request)
        options = _about_dependents(request, resource, options)
        query = request.query
        selector = parse_selector(
            query.get("labelSelector", ""), query.get("fieldSelector", ""), resource
        )
        store = self._registry.store
        deleted: list[JsonObject] = []
        for entry in list(store.select(resource.storage, namespace)):
            if not selector.matches(entry.namespace, entry.name, entry.body):
                continue
            try:
                outcome = await self._registry.delete(
                    resource,
                    entry.namespace,
                    entry.name,
                    DeleteOptions(
                        grace_seconds=options.grace_seconds, propagation=options.propagation
                    ),
                    dry_run=trial,
                )
            except ApiError as exc:
                if exc.reason != "NotFound":
                    raise
                continue
            deleted.append(read_view(resource, outcome.value))
        await request.answer_json(
            {
                "kind": resource.list_kind,
                "apiVersion": resource.api_version,
                "metadata": {"resourceVersion": str(store.revision)},
                "items": deleted,
            }
        )

    def _recorded(
        self, request: Request, resource: Resource, subresource: str, change: Change
    ) -> Change:
        """Return a change that notes who made it, where somebody applies the object."""
        agent = request.header(b"user-agent").partition("/")[0]
        manager = (request.query.get("fieldManager") or agent or "unknown")[:_LONGEST_MANAGER]

        def recorded(held: JsonObject) -> JsonObject:
            new = change(held)
            if not held["metadata"].get("managedFields"):
                new["metadata"].pop("managedFields", None)
                return new
            return record_update(
                resource,
                read_view(resource, held),
                new,
                manager=manager,
                subresource=subresource,
                now=timestamp(self._registry.now()),
            )

        return recorded

    def _admission(self, request: Request, resource: Resource) -> Admit | None:
        if resource.group != RBAC_GROUP or MASTERS in request.user.groups:
            return None
        return lambda old, new: check_escalation(self._authorizer, request.user, resource, old, new)

    async def _object(self, request: Request, resource: Resource) -> JsonObject:
        body = await request.body()
        content_type = request.header(b"content-type")
        value, doubled = decode_object(body, content_type, resource.kind, resource.schema)
        unknown = conform_to(resource, value)
        complaints = [*(f'unknown field "{path}"' for path in unknown), *doubled]
        match _validation(request):
            case "Strict" if complaints:
                raise undecodable(resource, f"strict decoding error: {', '.join(complaints)}")
            case "Warn":
                request.warnings.extend(complaints)
        return value

    def _complain(self, request: Request, complaints: list[str], patch: bytes) -> None:
        match _validation(request):
            case "Strict" if complaints:
                causes = Causes()
                causes.invalid(
                    "patch",
                    patch.decode("utf-8", "replace"),
                    f"strict decoding error: {', '.join(complaints)}",
                )
                raise invalid(_Subject, "", causes)
            case "Warn":
                request.warnings.extend(complaints)

    async def _delete_options(self, request: Request) -> tuple[DeleteOptions, bool]:
        body = await request.body()
        given: JsonObject = {}
        if body.strip():
            content_type = request.header(b"content-type")
            given, _ = decode_object(body, content_type, "DeleteOptions", "DeleteOptions")
        try:
            return parse_delete_options(given, request.query)
        except ValueError as exc:
            raise bad_request(f"DeleteOptions cannot be handled: {exc}") from exc

    async def _answer(self, request: Request, resource: Resource, outcome: Outcome) -> None:
        form = negotiate(request.header(b"accept"), request.query.get("includeObject", ""))
        code = 201 if outcome.is_new else 200
        if outcome.entry is not None:
            body = self._reading.render(resource, outcome.entry, form)
        else:
            body = encode(read_view(resource, outcome.value))
        await request.answer(body, code=code)


class _PatchOptions:
    """Names a patch's options in messages."""

    group = "meta.k8s.io"
    plural = ""
    kind = "PatchOptions"


def _about_dependents(
    request: Request, resource: Resource, options: DeleteOptions
) -> DeleteOptions:
    """Return a deletion's options as they are meant: a Job leaves its pods unless told otherwise.

    https://kubernetes.io/docs/concepts/workloads/controllers/job/
    """
    if resource is not JOBS or options.propagation is not None:
        return options
    request.warnings.append(
        "child pods are preserved by default when jobs are deleted; set "
        "propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress "
        "this warning"
    )
    return replace(options, propagation="Orphan")


def is_trial(request: Request) -> bool:
    value = request.query.get("dryRun", "")
    if value not in ("", "All"):
        raise bad_request(f'dryRun: Unsupported value: "{value}": supported values: "All"')
    return value == "All"


def _validation(request: Request) -> str:
    value = request.query.get("fieldValidation", "") or "Warn"
    if value not in ("Strict", "Warn", "Ignore"):
        raise bad_request(
            f'fieldValidation: Unsupported value: "{value}": supported values: "", "Ignore", '
            '"Strict", "Warn"'
        )
    return value


def refused_patch(kind: str, reason: str) -> ApiError:
    if kind == JSON_PATCH:
        # The test and the paths of a JSON patch speak about the object, not about the request.
        return ApiError(422, "Invalid", f"the server rejected our request: {reason}")
    return bad_request(reason)
