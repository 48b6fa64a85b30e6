"""``fedge doctor``: what is not as it should be, on a gateway or in the cloud."""

import json
import os
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from fedge_cli.errors import AwayError, CommandError, MissingError
from fedge_enrolment.checks import Check, Level, Machine, fail, of_gateway, ok, warn
from fedge_enrolment.identity import Identity

if TYPE_CHECKING:
    from fedge_cli.api import Api

ENDS_SOON = timedelta(days=30)
_MAX_NODES = 20
_DEFINITIONS = (
    "devices.devices.kubeedge.io",
    "devicemodels.devices.kubeedge.io",
    "devicestatuses.devices.kubeedge.io",
)


def of_edge(identity: Path, machine: Machine) -> Iterator[Check]:
    """Check this gateway."""
    yield from of_gateway(Identity.of(identity, os.environ), machine)


def of_cloud(api: "Api", namespace: str) -> Iterator[Check]:
    """Check the cloud through the API server, and its ports from here."""
    try:
        version = api.request("GET", "/version")
    except CommandError as exc:
        yield fail("API server", str(exc), "see that it runs, and the kubeconfig is its own")
        return
    yield ok("API server", f"answers, {version.get('gitVersion', 'version unknown')}")
    yield _definitions(api)
    yield from _enrolment(api, namespace)
    if "+fedge" in str(version.get("gitVersion")):
        yield from _nodes(api, namespace)
    else:
        yield from _nodes_of_cluster(api, namespace)


def print_checks(checks: Iterable[Check], output: str) -> bool:
    """Print checks as they come; return whether none failed."""
    found: list[Check] = []
    for check in checks:
        found.append(check)
        if output != "json":
            typer.echo(_line(check))
    if output == "json":
        typer.echo(json.dumps([_as_json(each) for each in found], indent=2))
    return all(each.level is not Level.FAIL for each in found)


def _line(check: Check) -> str:
    remedy = f" -> {check.remedy}" if check.remedy else ""
    return f"{check.level:<4}  {check.name}: {check.detail}{remedy}"


def _as_json(check: Check) -> dict[str, str]:
    return {
        "check": check.name,
        "level": check.level,
        "detail": check.detail,
        "remedy": check.remedy,
    }


def _definitions(api: "Api") -> Check:
    missing = []
    for name in _DEFINITIONS:
        try:
            api.request("GET", f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}")
        except MissingError:
            missing.append(name)
        except CommandError as exc:
            return warn("definitions", str(exc), "let your user read CustomResourceDefinitions")
    if missing:
        remedy = "`fedge apply -f deploy/k8s/base/crds/`"
        return fail("definitions", f"{', '.join(missing)} is not defined", remedy)
    return ok("definitions", "devices are defined")


def _enrolment(api: "Api", namespace: str) -> Iterator[Check]:
    from fedge_cli.enrolling import records_of  # noqa: PLC0415
    from fedge_enrolment import certificates as c  # noqa: PLC0415
    from fedge_enrolment.authority import CLOUD  # noqa: PLC0415
    from fedge_enrolment.dialling import Address, DialError, context_of, request  # noqa: PLC0415
    from fedge_enrolment.names import ENROLMENT_PORT  # noqa: PLC0415
    from fedge_enrolment.records import AUTHORITY, SERVER  # noqa: PLC0415
    from fedge_enrolment.registrar import TERMS  # noqa: PLC0415

    read = records_of(api, namespace)
    try:
        terms, authority = read(AUTHORITY, TERMS), read(AUTHORITY, CLOUD)
        servers = {name: read(SERVER, name) for name in ("hub", "broker")}
    except CommandError as exc:
        remedy = f"let your user read Secrets in {namespace}, or see that the API server answers"
        yield fail("enrolment", str(exc), remedy)
        return
    if terms is None or authority is None:
        remedy = "start hub with FEDGE_HUB_ENROLMENT_RECORDS=kubernetes and its addresses"
        yield fail("enrolment", "hub has made no certificate authority: nobody can join", remedy)
        return
    for name, record in (("authority", authority), *servers.items()):
        if record is None:
            yield fail(f"certificate of {name}", "is not there", "see the log of hub")
            continue
        end = c.load(record.data["tls.crt"].encode()).not_valid_after_utc
        left = end - datetime.now(UTC)
        detail = f"valid until {end:%Y-%m-%d}"
        if left > ENDS_SOON:
            yield ok(f"certificate of {name}", detail)
        elif left > timedelta(0):
            remedy = "`fedge ca rotate`" if name == "authority" else "see why hub does not renew it"
            yield warn(f"certificate of {name}", detail, remedy)
        else:
            yield fail(f"certificate of {name}", f"ended {end:%Y-%m-%d}", "see the log of hub")
    context = context_of(authority.data["ca.crt"].encode())
    try:
        address = Address.parse(terms.data["cloud"], ENROLMENT_PORT)
        request(address, context, "GET", "/healthz")
    except DialError as exc:
        remedy = f"{exc.remedy}; gateways dial this address (FEDGE_HUB_ENROLMENT_ADDRESS)"
        yield fail("enrolment port", exc.detail, remedy)
    else:
        yield ok("enrolment port", f"hub answers at {address}")
    yield _broker_port(terms.data["broker"], authority.data["ca.crt"].encode())


def _broker_port(text: str, bundle: bytes) -> Check:
    from fedge_enrolment.dialling import Address, DialError, context_of, dial, secured  # noqa: PLC0415
    from fedge_enrolment.names import BROKER, BROKER_PORT  # noqa: PLC0415

    address = Address.parse(text, BROKER_PORT)
    try:
        secured(dial(address), context_of(bundle), BROKER, address).close()
    except DialError as exc:
        remedy = f"{exc.remedy}; gateways dial this address (FEDGE_HUB_ENROLMENT_BROKER_ADDRESS)"
        return fail("broker port", exc.detail, remedy)
    return ok("broker port", f"the broker shows its certificate at {address}")


def _nodes(api: "Api", namespace: str) -> Iterator[Check]:
    from fedge_cli.enrolling import nodes_of  # noqa: PLC0415
    from fedge_cli.node_status import get_statuses  # noqa: PLC0415

    try:
        records = {each["node"]: each for each in nodes_of(api, namespace)}
        statuses, errors = get_statuses(api)
    except CommandError as exc:
        yield fail("nodes", str(exc), "let your user list nodes and ask them for their status")
        return
    for error in errors:
        where = "hub" if isinstance(error, AwayError) else "nodes"
        yield fail(where, str(error), "see that hub runs, and that the API server reaches it")
    yield from _summary([_node(each, records.get(each["node"])) for each in statuses])


def _summary(checks: list[Check]) -> Iterator[Check]:
    good = [each for each in checks if each.level is Level.OK]
    bad = [each for each in checks if each.level is not Level.OK]
    yield ok("nodes", f"{len(good)} of {len(checks)} are linked and their certificates valid")
    yield from bad[:_MAX_NODES]
    if len(bad) > _MAX_NODES:
        yield warn("nodes", f"{len(bad) - _MAX_NODES} more are not well", "see `fedge status`")


def _nodes_of_cluster(api: "Api", namespace: str) -> Iterator[Check]:
    """Check nodes by what a cluster itself says of them: its API server cannot ask hub."""
    from fedge_cli.enrolling import nodes_of  # noqa: PLC0415
    from fedge_cli.staleness import NODE_PATH  # noqa: PLC0415

    try:
        records = {each["node"]: each for each in nodes_of(api, namespace)}
        found = {each["metadata"]["name"]: each for each in api.request("GET", NODE_PATH)["items"]}
    except CommandError as exc:
        yield fail("nodes", str(exc), "let your user list nodes")
        return
    # others than those that joined are none of fedge's
    links = {name: _is_ready(found.get(name)) for name in records}
    yield from _summary(
        [_node({"node": name, "link": link}, records[name]) for name, link in links.items()]
    )


def _is_ready(node: dict[str, Any] | None) -> str:
    conditions = ((node or {}).get("status") or {}).get("conditions") or ()
    ready = {each["type"]: each["status"] for each in conditions}.get("Ready")
    return "up" if ready == "True" else "never" if node is None else "down"


def _node(status: dict[str, Any], record: dict[str, Any] | None) -> Check:
    name = f"node {status['node']}"
    if record is not None and record["state"] == "revoked":
        return warn(name, "is revoked", "delete its Node object, or let it join anew")
    if record is not None and record["state"] == "expired":
        remedy = "switch the gateway on, or join it anew once its grace is over"
        return warn(name, f"its certificate ended {record['expires']}", remedy)
    if status["link"] == "up":
        return ok(name, "is linked")
    remedy = "run `fedge doctor` on the gateway"
    if record is None:
        remedy = "it never joined here: `fedge token create`, and `fedge join TOKEN` on it"
    return warn(name, f"its link is {status['link']}", remedy)
