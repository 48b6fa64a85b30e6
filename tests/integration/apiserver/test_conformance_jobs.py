"""Jobs and CronJobs as every cluster judges them; no pod needs to run."""

from typing import Any

import httpx
import pytest

from tests.integration.apiserver.test_conformance_objects import MERGE, made, refused

NOWHERE = {"no-node-has-this": "true"}


def jobs(namespace: str, name: str = "") -> str:
    return f"/apis/batch/v1/namespaces/{namespace}/jobs" + (f"/{name}" if name else "")


def cron_jobs(namespace: str, name: str = "") -> str:
    return f"/apis/batch/v1/namespaces/{namespace}/cronjobs" + (f"/{name}" if name else "")


def job_spec(restart_policy: str | None = "Never", **spec: Any) -> dict[str, Any]:
    pod: dict[str, Any] = {
        "nodeSelector": NOWHERE,
        "containers": [{"name": "main", "image": "registry.example/none:1"}],
    }
    if restart_policy:
        pod["restartPolicy"] = restart_policy
    return {"template": {"spec": pod}, **spec}


def job(name: str, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": job_spec(**spec)}


def cron_job(name: str, **spec: Any) -> dict[str, Any]:
    template = spec.pop("template", job_spec())
    held = {"schedule": "0 4 * * *", "jobTemplate": {"spec": template}, **spec}
    return {"metadata": {"name": name}, "spec": held}


def test_job_is_completed_with_defaults_and_its_selector(api: httpx.Client, namespace: str) -> None:
    held = made(api.post(jobs(namespace), json=job("plain", suspend=True)))
    uid, spec = held["metadata"]["uid"], held["spec"]
    assert spec["completions"] == spec["parallelism"] == 1
    assert spec["backoffLimit"] == 6
    assert spec["completionMode"] == "NonIndexed"
    assert spec["podReplacementPolicy"] == "TerminatingOrFailed"
    assert spec["selector"]["matchLabels"] == {"batch.kubernetes.io/controller-uid": uid}
    labels = spec["template"]["metadata"]["labels"]
    assert labels["batch.kubernetes.io/job-name"] == labels["job-name"] == "plain"
    assert labels["batch.kubernetes.io/controller-uid"] == labels["controller-uid"] == uid


def test_job_of_many_without_a_number_has_none(api: httpx.Client, namespace: str) -> None:
    held = made(api.post(jobs(namespace), json=job("queue", suspend=True, parallelism=3)))
    assert "completions" not in held["spec"]


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"restart_policy": None}, "spec.template.spec.restartPolicy"),
        ({"restart_policy": "Always"}, "spec.template.spec.restartPolicy"),
        ({"parallelism": -1}, "spec.parallelism"),
        ({"completions": -1}, "spec.completions"),
        ({"backoffLimit": -1}, "spec.backoffLimit"),
        ({"activeDeadlineSeconds": -1}, "spec.activeDeadlineSeconds"),
        ({"ttlSecondsAfterFinished": -1}, "spec.ttlSecondsAfterFinished"),
        ({"completionMode": "Indexed", "parallelism": 1}, "spec.completions"),
        ({"completionMode": "Sometimes"}, "spec.completionMode"),
        ({"podReplacementPolicy": "Never"}, "spec.podReplacementPolicy"),
        ({"selector": {"matchLabels": {"a": "b"}}}, "spec.selector"),
        ({"backoffLimitPerIndex": 1}, "spec.backoffLimitPerIndex"),
        (
            {"podFailurePolicy": {"rules": []}, "restart_policy": "OnFailure"},
            "spec.template.spec.restartPolicy",
        ),
        (
            {
                "podFailurePolicy": {
                    "rules": [
                        {
                            "action": "Forgive",
                            "onExitCodes": {"operator": "In", "values": [1]},
                        }
                    ]
                }
            },
            "spec.podFailurePolicy.rules[0].action",
        ),
    ],
)
def test_job_that_cannot_be_is_invalid(
    api: httpx.Client, namespace: str, spec: dict[str, Any], field: str
) -> None:
    status = refused(api.post(jobs(namespace), json=job("bad", **spec)), 422, "Invalid")
    assert field in [cause["field"] for cause in status["details"]["causes"]]


def test_template_and_number_of_a_job_stay(api: httpx.Client, namespace: str) -> None:
    made(api.post(jobs(namespace), json=job("fixed", suspend=True)))
    for change in ({"completions": 5}, {"completionMode": "Indexed"}, {"selector": None}):
        answer = api.patch(jobs(namespace, "fixed"), json={"spec": change}, headers=MERGE)
        refused(answer, 422, "Invalid")
    held = made(
        api.patch(jobs(namespace, "fixed"), json={"spec": {"parallelism": 2}}, headers=MERGE)
    )
    assert held["metadata"]["generation"] == 2


def test_deleting_a_job_warns_that_its_pods_stay(api: httpx.Client, namespace: str) -> None:
    made(api.post(jobs(namespace), json=job("warned", suspend=True)))
    answer = api.delete(jobs(namespace, "warned"))
    assert answer.status_code == 200
    assert "child pods are preserved by default" in answer.headers["warning"]
    made(api.post(jobs(namespace), json=job("told", suspend=True)))
    answer = api.delete(jobs(namespace, "told"), params={"propagationPolicy": "Background"})
    assert "warning" not in answer.headers


def test_propagation_is_said_in_one_way(api: httpx.Client, namespace: str) -> None:
    made(api.post(jobs(namespace), json=job("both", suspend=True)))
    body = {"propagationPolicy": "Background", "orphanDependents": True}
    answer = api.request("DELETE", jobs(namespace, "both"), json=body)
    assert answer.status_code in (400, 422)
    refused(
        api.delete(jobs(namespace, "both"), params={"propagationPolicy": "Half"}), 422, "Invalid"
    )


def test_cron_job_is_completed_with_defaults(api: httpx.Client, namespace: str) -> None:
    held = made(api.post(cron_jobs(namespace), json=cron_job("plain", timeZone="Etc/UTC")))
    spec = held["spec"]
    assert spec["concurrencyPolicy"] == "Allow"
    assert spec["successfulJobsHistoryLimit"] == 3
    assert spec["failedJobsHistoryLimit"] == 1
    assert spec["suspend"] is False
    assert spec["jobTemplate"]["spec"]["template"]["spec"]["dnsPolicy"] == "ClusterFirst"


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"schedule": ""}, "spec.schedule"),
        ({"schedule": "now and then"}, "spec.schedule"),
        ({"schedule": "61 * * * *"}, "spec.schedule"),
        ({"schedule": "* * * * * *"}, "spec.schedule"),
        ({"schedule": "TZ=UTC 0 * * * *"}, "spec.schedule"),
        ({"timeZone": "Mars/Olympus"}, "spec.timeZone"),
        ({"timeZone": "Local"}, "spec.timeZone"),
        ({"concurrencyPolicy": "Maybe"}, "spec.concurrencyPolicy"),
        ({"startingDeadlineSeconds": -1}, "spec.startingDeadlineSeconds"),
        ({"successfulJobsHistoryLimit": -1}, "spec.successfulJobsHistoryLimit"),
        ({"failedJobsHistoryLimit": -1}, "spec.failedJobsHistoryLimit"),
        (
            {"template": job_spec("Always")},
            "spec.jobTemplate.spec.template.spec.restartPolicy",
        ),
        (
            {"template": job_spec(selector={"matchLabels": {"a": "b"}})},
            "spec.jobTemplate.spec.selector",
        ),
    ],
)
def test_cron_job_that_cannot_be_is_invalid(
    api: httpx.Client, namespace: str, spec: dict[str, Any], field: str
) -> None:
    status = refused(api.post(cron_jobs(namespace), json=cron_job("bad", **spec)), 422, "Invalid")
    assert field in [cause["field"] for cause in status["details"]["causes"]]


def test_name_of_a_cron_job_leaves_room_for_those_of_its_jobs(
    api: httpx.Client, namespace: str
) -> None:
    made(api.post(cron_jobs(namespace), json=cron_job("a" * 52)))
    refused(api.post(cron_jobs(namespace), json=cron_job("a" * 53)), 422, "Invalid")
