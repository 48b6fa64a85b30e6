"""The real kubectl against the server, in each version that is there.

``FEDGE_TEST_KUBECTLS`` names them, separated by colons; without it, those that
``scripts/kubectls`` has fetched, else the newest three that lie beside the one on the path as
``kubectl.1.N``, or that one.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Kubectl = Callable[..., "subprocess.CompletedProcess[str]"]
FETCHED = Path(__file__).parents[3] / ".cache/kubectls"

MANIFEST = """
apiVersion: v1
kind: ConfigMap
metadata: {name: hello}
data: {greeting: hi}
---
apiVersion: v1
kind: Secret
metadata: {name: hello}
data: {password: czNjcmV0}
---
apiVersion: v1
kind: Pod
metadata: {name: hello, labels: {app: hello}}
spec:
  nodeName: edge-1
  containers:
  - name: main
    image: busybox:1.36
    env: [{name: A, value: b}]
    ports: [{containerPort: 80}]
  volumes: [{name: config, configMap: {name: hello}}]
"""


def kubectls() -> list[str]:
    """Return the commands to try."""
    if given := os.environ.get("FEDGE_TEST_KUBECTLS"):
        return given.split(":")
    found = shutil.which("kubectl")
    for folder in (FETCHED, *([Path(found).resolve().parent] if found else ())):
        there = [file for file in folder.glob("kubectl.1.*") if file.suffix[1:].isdecimal()]
        if newest := sorted(there, key=lambda file: int(file.suffix[1:]), reverse=True)[:3]:
            return [str(file) for file in newest]
    return [found or "kubectl"]


@pytest.fixture(params=kubectls(), ids=lambda command: Path(command).name)
def kubectl(
    request: pytest.FixtureRequest, kubeconfig: Path, namespace: str, tmp_path: Path
) -> Kubectl:
    """Runs kubectl in the test's namespace; ``text`` is its standard input."""

    def run(
        *arguments: str, text: str = "", code: int = 0, editor: str = "false"
    ) -> "subprocess.CompletedProcess[str]":
        done = subprocess.run(
            [request.param, f"--kubeconfig={kubeconfig}", f"--namespace={namespace}", *arguments],
            input=text,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            env={
                "HOME": str(tmp_path),
                "PATH": "/usr/bin:/bin:/usr/local/bin",
                "KUBE_EDITOR": editor,
            },
        )
        assert done.returncode == code, (arguments, done.stdout, done.stderr)
        return done

    return run


def test_apply_creates_then_finds_nothing_to_change(kubectl: Kubectl) -> None:
    first = kubectl("apply", "-f", "-", text=MANIFEST).stdout
    assert first.splitlines() == [
        "configmap/hello created",
        "secret/hello created",
        "pod/hello created",
    ]
    second = kubectl("apply", "-f", "-", text=MANIFEST).stdout
    assert {line.split()[-1] for line in second.splitlines()} == {"unchanged"}
    third = kubectl("apply", "-f", "-", text=MANIFEST.replace("hi}", "ho}")).stdout
    assert third.splitlines()[0] == "configmap/hello configured"


def test_apply_says_which_field_is_wrong(kubectl: Kubectl) -> None:
    text = MANIFEST.replace("env:", "enf:")
    done = kubectl("apply", "-f", "-", text=text, code=1)
    assert 'strict decoding error: unknown field "spec.containers[0].enf"' in done.stderr


def test_get_shows_the_usual_columns(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", text=MANIFEST)
    head, row = kubectl("get", "pods", "-o", "wide").stdout.splitlines()
    assert head.split()[:7] == ["NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE"]
    assert row.split()[:4] == ["hello", "0/1", "Pending", "0"]
    assert row.split()[6] == "edge-1"
    assert kubectl("get", "pod/hello", "-o", "jsonpath={.spec.nodeName}").stdout == "edge-1"
    assert "hello" in kubectl("get", "cm,secret").stdout
    assert kubectl("get", "pods", "-l", "app=other").stderr.startswith("No resources found")


def test_get_watch_prints_changes(kubectl: Kubectl, kubeconfig: Path, namespace: str) -> None:
    kubectl("apply", "-f", "-", text=MANIFEST)
    command = ["kubectl", f"--kubeconfig={kubeconfig}", f"-n={namespace}", "get", "pods", "-w"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        try:
            assert watching.stdout.readline().startswith("NAME")
            assert watching.stdout.readline().split()[2] == "Pending"
            kubectl("delete", "pod", "hello", "--wait=false")
            assert watching.stdout.readline().split()[2] == "Terminating"
        finally:
            watching.terminate()


def test_describe_tells_of_the_pod_and_its_events(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", text=MANIFEST)
    text = kubectl("describe", "pod", "hello").stdout
    assert "busybox:1.36" in text
    assert "QoS Class:" in text
    assert "Events:" in text


def test_patch_label_annotate_and_edit(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", text=MANIFEST)
    kubectl("patch", "cm", "hello", "-p", '{"data":{"more":"1"}}')
    kubectl("label", "cm", "hello", "tier=front")
    kubectl("annotate", "cm", "hello", "note=x")
    value = json.loads(kubectl("get", "cm", "hello", "-o", "json").stdout)
    assert value["data"] == {"greeting": "hi", "more": "1"}
    assert value["metadata"]["labels"] == {"tier": "front"}
    assert value["metadata"]["annotations"]["note"] == "x"
    kubectl("label", "cm", "hello", "tier-")
    value = json.loads(kubectl("get", "cm", "hello", "-o", "json").stdout)
    assert "labels" not in value["metadata"]


def test_create_makes_objects_from_arguments(kubectl: Kubectl) -> None:
    kubectl("create", "configmap", "made", "--from-literal=a=b")
    kubectl("create", "secret", "generic", "made", "--from-literal=a=b")
    kubectl("create", "serviceaccount", "made")
    assert kubectl("get", "secret", "made", "-o", "jsonpath={.data.a}").stdout == "Yg=="
    done = kubectl("create", "configmap", "made", code=1)
    assert 'configmaps "made" already exists' in done.stderr


def test_delete_forces_a_bound_pod_away(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", text=MANIFEST)
    kubectl("delete", "pod", "hello", "--grace-period=0", "--force")
    assert 'pods "hello" not found' in kubectl("get", "pod", "hello", code=1).stderr


def test_server_side_apply_reports_conflicts(kubectl: Kubectl) -> None:
    kubectl("apply", "--server-side", "-f", "-", text=MANIFEST)
    other = MANIFEST.replace("hi}", "ho}")
    done = kubectl("apply", "--server-side", "--field-manager=bob", "-f", "-", text=other, code=1)
    assert 'conflict with "kubectl": .data.greeting' in done.stderr
    kubectl(
        "apply", "--server-side", "--field-manager=bob", "--force-conflicts", "-f", "-", text=other
    )
    assert kubectl("get", "cm", "hello", "-o", "jsonpath={.data.greeting}").stdout == "ho"


def test_unknown_kind_is_said_to_be_unknown(kubectl: Kubectl) -> None:
    text = "apiVersion: no.such/v1\nkind: Thing\nmetadata: {name: x}\n"
    done = kubectl("apply", "-f", "-", text=text, code=1)
    assert 'no matches for kind "Thing" in version "no.such/v1"' in done.stderr


def test_replace_and_diff_know_the_defaults(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", text=MANIFEST)
    kubectl("replace", "-f", "-", text=MANIFEST)
    done = kubectl("diff", "-f", "-", text=MANIFEST.replace("hi}", "ho}"), code=1)
    changed = [line for line in done.stdout.splitlines() if line.startswith(("+ ", "- "))]
    assert changed == ["-  greeting: hi", "+  greeting: ho"]


def test_edit_writes_what_the_editor_wrote(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", text=MANIFEST)
    kubectl("edit", "cm", "hello", editor="sed -i s/hi/ho/")
    assert kubectl("get", "cm", "hello", "-o", "jsonpath={.data.greeting}").stdout == "ho"


def test_api_resources_explain_and_can_i(kubectl: Kubectl) -> None:
    names = kubectl("api-resources", "-o", "name").stdout.splitlines()
    assert {"pods", "nodes", "leases.coordination.k8s.io"} <= set(names)
    assert "nodeName" in kubectl("explain", "pod.spec").stdout
    assert kubectl("auth", "can-i", "get", "pods").stdout.strip() == "yes"


def test_invalid_pod_is_phrased_as_kubectl_users_know(kubectl: Kubectl) -> None:
    text = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: main}]}\n"
    done = kubectl("create", "-f", "-", text=text, code=1)
    assert 'The Pod "p" is invalid: spec.containers[0].image: Required value' in done.stderr


def test_logs_without_a_hub_say_the_remedy(kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", text=MANIFEST)
    done = kubectl("logs", "hello", code=1)
    assert "FEDGE_APISERVER_HUB_URL" in done.stderr


def test_kubectl_makes_roles_and_asks_what_it_may_do(kubectl: Kubectl, namespace: str) -> None:
    kubectl("create", "role", "reader", "--verb=get,list", "--resource=pods")
    kubectl("create", "serviceaccount", "app")
    account = f"system:serviceaccount:{namespace}:app"
    assert kubectl("auth", "can-i", "list", "pods", f"--as={account}", code=1).stdout == "no\n"
    kubectl("create", "rolebinding", "b", "--role=reader", f"--serviceaccount={namespace}:app")
    assert kubectl("auth", "can-i", "list", "pods", f"--as={account}").stdout == "yes\n"
    assert account in kubectl("auth", "whoami", f"--as={account}").stdout
    assert "pods" in kubectl("auth", "can-i", "--list", f"--as={account}").stdout
    assert "No resources found" in kubectl("get", "pods", f"--as={account}").stderr
    refused = kubectl("get", "secrets", f"--as={account}", code=1).stderr
    assert 'cannot list resource "secrets"' in refused
    assert "Role/reader" in kubectl("get", "rolebindings").stdout


def test_kubectl_makes_a_budget(kubectl: Kubectl) -> None:
    kubectl("create", "poddisruptionbudget", "b", "--selector=app=x", "--min-available=50%")
    assert "50%" in kubectl("get", "pdb").stdout


CRON_JOB = """
apiVersion: batch/v1
kind: CronJob
metadata: {name: nightly}
spec:
  schedule: "0 3 * * *"
  timeZone: Europe/Berlin
  suspend: true
  jobTemplate:
    metadata: {labels: {of: nightly}, annotations: {why: backup}}
    spec:
      completions: 3
      parallelism: 2
      completionMode: Indexed
      ttlSecondsAfterFinished: 0
      template:
        metadata: {annotations: {a: b}}
        spec:
          restartPolicy: OnFailure
          nodeSelector: {nowhere: "true"}
          automountServiceAccountToken: false
          terminationGracePeriodSeconds: 0
          securityContext: {runAsUser: 0, fsGroup: 7, sysctls: [{name: a.b, value: "1"}]}
          tolerations: [{key: k, operator: Exists, effect: NoExecute, tolerationSeconds: 0}]
          affinity:
            nodeAffinity:
              requiredDuringSchedulingIgnoredDuringExecution:
                nodeSelectorTerms:
                - matchExpressions: [{key: zone, operator: In, values: [a, b]}]
            podAntiAffinity:
              preferredDuringSchedulingIgnoredDuringExecution:
              - weight: 5
                podAffinityTerm: {topologyKey: host, labelSelector: {}, namespaceSelector: {}}
          hostAliases: [{ip: 10.0.0.1, hostnames: [x.y]}]
          initContainers: [{name: first, image: "a:1", restartPolicy: Always}]
          containers:
          - name: main
            image: "busybox:1.36"
            command: [sh, -c]
            args: ["true"]
            ports: [{name: web, containerPort: 80, protocol: UDP}]
            env:
            - {name: PLAIN, value: x}
            - {name: KEY, valueFrom: {secretKeyRef: {name: s, key: k, optional: false}}}
            - {name: FIELD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
            - {name: LIMIT, valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: 1m}}}
            envFrom: [{prefix: P_, configMapRef: {name: c}}]
            resources: {requests: {cpu: 100m, memory: 1Mi}, limits: {cpu: "1"}}
            livenessProbe: {httpGet: {path: /, port: web}, initialDelaySeconds: 3}
            startupProbe: {exec: {command: ["true"]}, failureThreshold: 30}
            lifecycle: {preStop: {sleep: {seconds: 2}}}
            securityContext:
              privileged: false
              capabilities: {drop: [ALL]}
              seccompProfile: {type: RuntimeDefault}
            volumeMounts:
            - {name: config, mountPath: /c, readOnly: true}
            - {name: scratch, mountPath: /s, subPath: x}
          volumes:
          - {name: config, configMap: {name: c, items: [{key: k, path: p, mode: 256}]}}
          - {name: scratch, emptyDir: {medium: Memory, sizeLimit: 1Mi}}
          - {name: host, hostPath: {path: /var/log, type: Directory}}
          - name: all
            projected:
              sources:
              - serviceAccountToken: {path: token, expirationSeconds: 600, audience: me}
              - downwardAPI: {items: [{path: l, fieldRef: {fieldPath: metadata.labels}}]}
              - secret: {name: s}
"""


def test_kubectl_makes_jobs_and_cron_jobs(kubectl: Kubectl) -> None:
    kubectl("create", "job", "once", "--image=busybox:1.36", "--", "true")
    kubectl("create", "cronjob", "often", "--image=busybox:1.36", "--schedule=*/5 * * * *")
    header, row = kubectl("get", "jobs").stdout.splitlines()
    assert header.split() == ["NAME", "STATUS", "COMPLETIONS", "DURATION", "AGE"]
    assert row.split()[:3] == ["once", "Running", "0/1"]
    header, row = kubectl("get", "cronjobs").stdout.splitlines()
    assert header.split()[:5] == ["NAME", "SCHEDULE", "TIMEZONE", "SUSPEND", "ACTIVE"]
    assert row.startswith("often   */5 * * * *   <none>     False     0")
    assert "Pods Statuses:" in kubectl("describe", "job", "once").stdout
    kubectl("delete", "job", "once")
    kubectl("delete", "cronjob", "often")
    assert "No resources found" in kubectl("get", "jobs,cronjobs").stderr


def test_job_from_a_cron_job_is_what_the_template_says(kubectl: Kubectl) -> None:
    """kubectl sends it in protobuf, so this compares protobuf with JSON, field by field."""
    kubectl("apply", "--filename=-", text=CRON_JOB)
    kubectl("create", "job", "now", "--from=cronjob/nightly")
    cron = json.loads(kubectl("get", "cronjob", "nightly", "--output=json").stdout)
    job = json.loads(kubectl("get", "job", "now", "--output=json").stdout)
    wanted, made = cron["spec"]["jobTemplate"]["spec"], job["spec"]
    assert made["template"]["metadata"].pop("labels")["batch.kubernetes.io/job-name"] == "now"
    assert made.pop("selector")
    assert made.pop("manualSelector", False) is False
    assert made == wanted
    assert job["metadata"]["labels"] == {"of": "nightly"}
    assert job["metadata"]["annotations"]["why"] == "backup"
