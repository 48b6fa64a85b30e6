"""Enrolment's records, through the API server and with the caller's own rights."""

from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

from typing_extensions import override

from fedge_cli.api import Api
from fedge_cli.errors import AwayError, CommandError, MissingError
from fedge_enrolment.records import ChangedError, ExistsError, Record, Records, RecordsAwayError
from fedge_enrolment.secret_records import LABEL, record_of, secret_name, secret_of

_CONFLICT: Final = 409


class ApiRecords(Records):
    """The Secrets of a namespace. Errors of the server are the command's own (`CommandError`)."""

    def __init__(self, api: Api, namespace: str) -> None:
        self._api = api
        self._namespace = namespace

    @override
    async def get(self, kind: str, name: str) -> Record | None:
        try:
            return record_of(self._call("GET", secret_name(kind, name)))
        except MissingError:
            return None

    @override
    async def all_of(self, kind: str) -> list[Record]:
        found = self._call("GET", query={"labelSelector": f"{LABEL}={kind}"})
        return [record_of(each) for each in found["items"]]

    @override
    async def create(self, kind: str, name: str, data: Mapping[str, str]) -> Record:
        secret = secret_of(Record(kind=kind, name=name, data=data), self._namespace)
        try:
            return record_of(self._call("POST", body=secret))
        except CommandError as exc:
            if exc.status == _CONFLICT:
                raise ExistsError(str(exc)) from exc
            raise

    @override
    async def replace(self, record: Record, data: Mapping[str, str]) -> Record:
        new = Record(kind=record.kind, name=record.name, data=data, revision=record.revision)
        secret = secret_of(new, self._namespace)
        try:
            return record_of(self._call("PUT", secret["metadata"]["name"], body=secret))
        except (CommandError, MissingError) as exc:
            if isinstance(exc, MissingError) or exc.status == _CONFLICT:
                raise ChangedError(str(exc)) from exc
            raise

    @override
    async def delete(self, kind: str, name: str) -> None:
        try:
            self._call("DELETE", secret_name(kind, name))
        except MissingError:
            return

    @override
    def changes(self) -> AsyncIterator[None]:
        raise RecordsAwayError("a command does not wait for changes")

    def _call(
        self,
        method: str,
        name: str = "",
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
    ) -> dict[str, Any]:
        path = f"/api/v1/namespaces/{self._namespace}/secrets"
        try:
            return self._api.request(
                method, f"{path}/{name}" if name else path, query=query, body=body
            )
        except AwayError as exc:
            raise exc.at("the records of enrolment") from exc
