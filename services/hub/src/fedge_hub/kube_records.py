"""Enrolment's records as Kubernetes Secrets of one namespace."""

import contextlib
from collections.abc import AsyncIterator, Mapping

import structlog
from typing_extensions import override

from fedge_enrolment.records import ChangedError, ExistsError, Record, Records, RecordsAwayError
from fedge_enrolment.secret_records import LABEL, record_of, secret_name, secret_of
from fedge_kube import (
    NAMESPACES,
    SECRETS,
    ConflictError,
    KubeClient,
    KubeError,
    NotFoundError,
)
from fedge_service import backoff

log = structlog.stdlib.get_logger("fedge.hub")


class KubeRecords(Records):
    """The Secrets."""

    def __init__(self, client: KubeClient, namespace: str) -> None:
        self._client = client
        self._namespace = namespace

    @override
    async def get(self, kind: str, name: str) -> Record | None:
        try:
            found = await self._client.get(SECRETS, self._namespace, secret_name(kind, name))
        except NotFoundError:
            return None
        except KubeError as exc:
            raise _away(exc) from exc
        return record_of(found)

    @override
    async def all_of(self, kind: str) -> list[Record]:
        try:
            found = await self._client.list(
                SECRETS, namespace=self._namespace, label_selector=f"{LABEL}={kind}"
            )
        except KubeError as exc:
            raise _away(exc) from exc
        return [record_of(each) for each in found.items]

    @override
    async def create(self, kind: str, name: str, data: Mapping[str, str]) -> Record:
        secret = secret_of(Record(kind=kind, name=name, data=data), self._namespace)
        try:
            try:
                made = await self._client.create(SECRETS, secret)
            except NotFoundError:
                await self._make_namespace()
                made = await self._client.create(SECRETS, secret)
        except ConflictError as exc:
            raise ExistsError(str(exc)) from exc
        except KubeError as exc:
            raise _away(exc) from exc
        return record_of(made)

    @override
    async def replace(self, record: Record, data: Mapping[str, str]) -> Record:
        new = Record(kind=record.kind, name=record.name, data=data, revision=record.revision)
        try:
            secret = secret_of(new, self._namespace)
            return record_of(await self._client.replace(SECRETS, secret))
        except (ConflictError, NotFoundError) as exc:
            raise ChangedError(str(exc)) from exc
        except KubeError as exc:
            raise _away(exc) from exc

    @override
    async def delete(self, kind: str, name: str) -> None:
        try:
            await self._client.delete(SECRETS, self._namespace, secret_name(kind, name))
        except NotFoundError:
            return
        except KubeError as exc:
            raise _away(exc) from exc

    @override
    async def changes(self) -> AsyncIterator[None]:
        while True:
            async for _ in backoff(most_seconds=10):
                try:
                    async for _ in self._changes_of_one_watch():
                        yield
                except KubeError as exc:
                    log.info("watching_records_again", reason=str(exc))
                else:
                    break

    async def _changes_of_one_watch(self) -> AsyncIterator[None]:
        listing = await self._client.list(SECRETS, namespace=self._namespace, label_selector=LABEL)
        yield
        watched = self._client.watch(
            SECRETS, listing.revision, namespace=self._namespace, label_selector=LABEL
        )
        async for kind, _secret in watched:
            if kind != "BOOKMARK":
                yield

    async def _make_namespace(self) -> None:
        """Make the namespace: a cluster that hub runs in has it, an embedded API may not."""
        body = {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": self._namespace},
        }
        with contextlib.suppress(ConflictError):
            await self._client.create(NAMESPACES, body)


def _away(exc: KubeError) -> RecordsAwayError:
    return RecordsAwayError(f"the Kubernetes API does not give or take records now: {exc}")
