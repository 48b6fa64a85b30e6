"""What can be known of manifests and images without a cluster: they fit their programs."""

import json
import re
import runpy
import shutil
import subprocess
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import yaml

from fedge_enrolment.authority import SERVICES
from fedge_enrolment.names import user_of_service
from fedge_enrolment.records import SERVER
from fedge_enrolment.secret_records import secret_name
from fedge_fabric.definitions import User, cloud_definitions
from fedge_hub.settings import EnrolmentSettings, SpanSettings
from fedge_service import (
    EdgeSettings,
    HealthSettings,
    ServiceSettings,
    TraceSettings,
    find_services,
)

ROOT = Path(__file__).parents[3]
K8S = ROOT / "deploy" / "k8s"
OVERLAYS = ("dev", "prod")


def known_variables() -> set[str]:
    known = {"FEDGE_LOG_LEVEL"}
    classes: list[type[ServiceSettings]] = [EdgeSettings, HealthSettings, TraceSettings]
    classes += [entry.load().settings for entry in find_services().values()]
    classes += [EnrolmentSettings, SpanSettings]
    for settings in classes:
        prefix = settings.model_config["env_prefix"]
        known |= {f"{prefix}{name.upper()}" for name in settings.model_fields}
    return known


def rendered(overlay: str) -> list[dict[str, Any]]:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("needs kubectl")
    out = subprocess.run(
        [kubectl, "kustomize", K8S / "overlays" / overlay], check=True, capture_output=True
    ).stdout
    return [doc for doc in yaml.safe_load_all(out) if doc]


def pod_specs(objects: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    for obj in objects:
        if obj["kind"] in {"Deployment", "StatefulSet"}:
            yield obj["metadata"]["name"], obj["spec"]["template"]["spec"]


@pytest.fixture(scope="module", params=OVERLAYS)
def objects(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    return rendered(request.param)


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return found


def test_services_of_manifests_exist_and_read_every_variable_they_are_given(
    objects: list[dict[str, Any]],
) -> None:
    known, services = known_variables(), find_services()
    seen = set()
    for name, spec in pod_specs(objects):
        for container in spec["containers"]:
            if container["image"].startswith("fedge/"):
                service = container["image"].removeprefix("fedge/").partition(":")[0]
                assert service in services, name
                seen.add(service)
                for variable in container.get("env", ()):
                    assert variable["name"] in known, (name, variable["name"])
    assert seen == {"hub", "controller", "device"}


def test_pods_run_as_nobody_with_limits_and_find_what_they_mount(
    objects: list[dict[str, Any]],
) -> None:
    for name, spec in pod_specs(objects):
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["runAsUser"] > 0, name
        volumes = {volume["name"] for volume in spec.get("volumes", ())} | {"data"}
        for container in spec["containers"]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False, name
            assert context["capabilities"] == {"drop": ["ALL"]}, name
            assert container["resources"]["limits"]["memory"], name
            assert {mount["name"] for mount in container.get("volumeMounts", ())} <= volumes, name


def test_secrets_that_are_named_are_made(objects: list[dict[str, Any]]) -> None:
    made = {
        obj["metadata"]["name"]: {*obj.get("data", {}), *obj.get("stringData", {})}
        for obj in objects
        if obj["kind"] == "Secret"
    }
    if not made:  # prod: they come from the script
        script = runpy.run_path(str(ROOT / "scripts" / "cluster_secrets.py"))
        made = {
            each["metadata"]["name"]: set(each["stringData"])
            for each in script["cluster_secrets"]()
        }
    for name in ("broker", *(f"client-{service}" for service in SERVICES)):  # hub makes these
        made[secret_name(SERVER, name)] = {"ca.crt", "tls.crt", "tls.key"}
    for name, spec in pod_specs(objects):
        for container in spec["containers"]:
            for variable in container.get("env", ()):
                if ref := variable.get("valueFrom", {}).get("secretKeyRef"):
                    assert ref["key"] in made[ref["name"]], name
        for volume in spec.get("volumes", ()):
            if secret := volume.get("secret"):
                keys = {item["key"] for item in secret["items"]}
                assert keys <= made[secret["secretName"]], name


def test_selectors_find_their_pods(objects: list[dict[str, Any]]) -> None:
    labels = [
        obj["spec"]["template"]["metadata"]["labels"]
        for obj in objects
        if obj["kind"] in {"Deployment", "StatefulSet"}
    ]

    def finds(selector: dict[str, str]) -> bool:
        return any(selector.items() <= each.items() for each in labels)

    for obj in objects:
        match obj["kind"]:
            case "Service":
                assert finds(obj["spec"]["selector"]), obj["metadata"]["name"]
            case "NetworkPolicy":
                assert finds(obj["spec"]["podSelector"].get("matchLabels", {}))
            case "PodDisruptionBudget":
                assert finds(obj["spec"]["selector"]["matchLabels"])


def test_bindings_name_roles_and_accounts_that_exist(objects: list[dict[str, Any]]) -> None:
    named = {
        (obj["kind"], obj["metadata"].get("namespace"), obj["metadata"]["name"]) for obj in objects
    }
    bindings = [obj for obj in objects if obj["kind"] in {"RoleBinding", "ClusterRoleBinding"}]
    assert len(bindings) == 4
    for obj in bindings:
        ref = obj["roleRef"]
        assert (ref["kind"], obj["metadata"].get("namespace"), ref["name"]) in named
        for subject in obj["subjects"]:
            assert (subject["kind"], subject["namespace"], subject["name"]) in named


def test_rights_cover_the_installed_kinds_and_no_wildcard(objects: list[dict[str, Any]]) -> None:
    for service in ("controller", "device"):
        [role] = [
            obj
            for obj in objects
            if obj["kind"] == "ClusterRole" and obj["metadata"]["name"] == f"fedge-{service}"
        ]
        watched = {
            (group, resource)
            for rule in role["rules"]
            if {"list", "watch"} <= set(rule["verbs"])
            for group in rule["apiGroups"]
            for resource in rule["resources"]
        }
        for entry in entry_points(group=f"fedge.{service}.resources"):
            resource = entry.load().resource
            assert (resource.group, resource.plural) in watched
        assert "*" not in json.dumps(role["rules"])


def test_component_renders_with_the_base(tmp_path: Path) -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("needs kubectl")
    shutil.copytree(K8S, tmp_path / "k8s")
    overlay = tmp_path / "k8s" / "overlays" / "prod" / "kustomization.yaml"
    overlay.write_text(overlay.read_text() + "components:\n  - ../../components/hub-autoscaling\n")
    out = subprocess.run(
        [kubectl, "kustomize", overlay.parent], check=True, capture_output=True
    ).stdout
    kinds = {doc["kind"]: doc for doc in yaml.safe_load_all(out)}
    assert kinds["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]["name"] == "fedge-hub"


def test_definitions_of_dev_are_those_that_the_code_makes() -> None:
    found = json.loads((K8S / "overlays" / "dev" / "definitions.json").read_text())
    made = cloud_definitions(
        admin=User(name="fedge", password="fedge-dev"),
        nodes={},
        admin_tags="administrator",
        services=[user_of_service(name) for name in SERVICES],
    )
    for each in (found["users"][0], made["users"][0]):
        del each["password_hash"]  # salted
    assert found == made


def test_compose_names_services_and_variables_that_exist(compose: dict[str, Any]) -> None:
    known, services = known_variables(), find_services()
    built = {name: each for name, each in compose["services"].items() if "build" in each}
    own = {"hub", "controller", "device", "apiserver"}
    assert built.keys() == own | {"setup", "fedge", "edge-1", "edge-2"}
    for each in built.values():
        assert (ROOT / each["build"]["dockerfile"]).exists()
    for name in own:
        each = built[name]
        assert name in services
        assert each["environment"].keys() <= known, name
        for needed in each.get("depends_on", ()):
            assert needed in compose["services"]
    for each in compose["services"].values():
        for volume in each.get("volumes", ()):
            source = re.sub(r"^\$\{[A-Z_]+:-(.*?)\}", r"\1", volume).partition(":")[0]
            assert source in compose["volumes"] or (ROOT / source).exists()
        for config in each.get("configs", ()):
            assert config["source"] in compose["configs"]
    assert [name for name, each in compose["services"].items() if "profiles" in each] == ["fedge"]


def test_observability_names_only_metrics_that_exist() -> None:
    folder = ROOT / "observability"
    for path in (*folder.glob("*.y*ml"), *folder.glob("grafana/**/*.yml")):
        assert yaml.safe_load(path.read_text()), path
    dashboard = json.loads((folder / "grafana" / "dashboards" / "fedge.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    rules = yaml.safe_load((folder / "rules.yml").read_text())
    queries += [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    hub = (ROOT / "services" / "hub" / "src" / "fedge_hub" / "http.py").read_text()
    assert "fedge_messages_{name}_total" in hub
    own = {
        f"fedge_messages_{name}_total"
        for name in ("published", "handled", "retried", "dead_lettered")
    }
    of_broker = {
        "rabbitmq_detailed_queue_messages_ready",
        "rabbitmq_detailed_queue_messages_unacked",
    }
    for query in queries:
        names = set(re.findall(r"\b[a-z]+(?:_[a-z]+)+\b", re.sub(r"\{.*?\}", "", query)))
        assert names <= own | of_broker, query
    compose = yaml.safe_load((folder / "docker-compose.yml").read_text())
    for each in compose["services"].values():
        for volume in each.get("volumes", ()):
            assert (ROOT / volume.partition(":")[0]).exists()


@pytest.mark.parametrize("name", ["fedge-controller", "fedge-device"])
def test_nodes_always_have_a_replica_in_production(name: str) -> None:
    rendered_objects = rendered("prod")
    [deployment] = [
        each
        for each in rendered_objects
        if (each["kind"], each["metadata"]["name"]) == ("Deployment", name)
    ]
    assert deployment["spec"]["replicas"] == 2
    assert deployment["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert [
        each["spec"]["minAvailable"]
        for each in rendered_objects
        if each["kind"] == "PodDisruptionBudget"
        and each["spec"]["selector"] == deployment["spec"]["selector"]
    ] == [1]


@pytest.mark.parametrize("name", ["fedge-hub", "fedge-controller", "fedge-device"])
def test_every_service_is_probed_at_a_port_that_it_serves(
    objects: list[dict[str, Any]], name: str
) -> None:
    [deployment] = [
        each for each in objects if (each["kind"], each["metadata"]["name"]) == ("Deployment", name)
    ]
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    values = {each["name"]: each.get("value") for each in container["env"]}
    own = name.removeprefix("fedge-").upper()
    port = values.get("FEDGE_HEALTH_PORT") or values.get(f"FEDGE_{own}_HTTP_PORT")
    for probe, path in (("readinessProbe", "/readyz"), ("livenessProbe", "/livez")):
        asked = container[probe]["httpGet"]
        assert asked["path"] == path
        assert str(ports[asked["port"]]) == port
