"""The official Python client, in both its forms, against the server."""

from pathlib import Path

import pytest
from kubernetes import client, config, watch
from kubernetes.aio import client as aio_client
from kubernetes.aio import config as aio_config
from kubernetes.aio import watch as aio_watch


def manifest(name: str) -> client.V1Pod:
    return client.V1Pod(
        metadata=client.V1ObjectMeta(name=name, labels={"app": "a"}),
        spec=client.V1PodSpec(
            containers=[client.V1Container(name="main", image="busybox:1.36")],
            scheduler_name="nobody",
        ),
    )


def test_client_creates_reads_patches_watches_and_deletes(kubeconfig: Path, namespace: str) -> None:
    config.load_kube_config(config_file=str(kubeconfig))  # type: ignore[no-untyped-call]  # the library's
    with client.ApiClient() as connection:
        core = client.CoreV1Api(connection)
        made = core.create_namespaced_pod(namespace, manifest("p"))
        assert made.metadata is not None
        assert made.status is not None
        assert made.status.phase == "Pending"
        listing = core.list_namespaced_pod(namespace, label_selector="app=a")
        assert [item.metadata.name for item in listing.items if item.metadata] == ["p"]
        core.patch_namespaced_pod_status("p", namespace, {"status": {"phase": "Running"}})
        watcher = watch.Watch()  # type: ignore[no-untyped-call]  # the library's
        seen = []
        for event in watcher.stream(  # type: ignore[no-untyped-call]  # the library's
            core.list_namespaced_pod,
            namespace,
            resource_version=made.metadata.resource_version,
            timeout_seconds=10,
        ):
            seen.append((event["type"], event["object"].status.phase))
            watcher.stop()  # type: ignore[no-untyped-call]  # the library's
        assert seen == [("MODIFIED", "Running")]
        with pytest.raises(client.ApiException) as caught:
            core.read_namespaced_pod("absent", namespace)
        assert caught.value.status == 404
        core.delete_namespaced_pod("p", namespace, grace_period_seconds=0)
        assert core.list_namespaced_pod(namespace).items == []


async def test_async_client_creates_and_watches(kubeconfig: Path, namespace: str) -> None:
    configuration = aio_client.Configuration()
    await aio_config.load_kube_config(  # type: ignore[no-untyped-call]  # the library's
        config_file=str(kubeconfig), client_configuration=configuration
    )
    async with aio_client.ApiClient(configuration) as connection:
        core = aio_client.CoreV1Api(connection)
        meta = aio_client.V1ObjectMeta(name="a")
        body = aio_client.V1ConfigMap(metadata=meta, data={"k": "v"})
        made = await core.create_namespaced_config_map(namespace, body)
        assert made.data == {"k": "v"}
        async with aio_watch.Watch() as watcher:  # type: ignore[no-untyped-call]  # the library's
            async for event in watcher.stream(
                core.list_namespaced_config_map, namespace, timeout_seconds=10
            ):
                assert event["type"] == "ADDED"
                assert event["object"].metadata.name == "a"
                break
