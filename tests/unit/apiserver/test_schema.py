"""Fields and types of built-in kinds."""

from typing import Any

import pytest

from fedge_apiserver.schema import conform


def pod(**spec: Any) -> dict[str, Any]:
    return {"kind": "Pod", "metadata": {"name": "p"}, "spec": spec}


def test_unknown_fields_are_dropped_and_told_with_their_path() -> None:
    value = pod(contaners=[], containers=[{"name": "a", "imgae": "x"}])
    assert conform(value, "Pod") == ["spec.contaners", "spec.containers[0].imgae"]
    assert value["spec"] == {"containers": [{"name": "a"}]}


def test_null_is_as_absent() -> None:
    value = pod(containers=[{"name": "a", "env": None}], nodeName=None)
    assert conform(value, "Pod") == []
    assert value["spec"] == {"containers": [{"name": "a"}]}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"hostNetwork": "yes"}, "unmarshal string into Go struct field PodSpec.spec.hostNetwork"),
        (
            {"containers": {}},
            "cannot unmarshal object into Go struct field PodSpec.spec.containers",
        ),
        ({"containers": [{"name": 1}]}, "field Container.spec.containers.name of type string"),
        ({"terminationGracePeriodSeconds": 1.5}, "cannot unmarshal number 1.5 into Go"),
        ({"containers": [{"name": "a", "resources": {"limits": {"cpu": "x"}}}]}, "quantities must"),
    ],
)
def test_wrong_types_are_named(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=r"quantities|unmarshal") as caught:
        conform(pod(**spec), "Pod")
    assert message in str(caught.value)


def test_quantities_may_be_numbers_and_ports_text_or_numbers() -> None:
    container = {
        "name": "a",
        "resources": {"limits": {"cpu": 1, "memory": "64Mi"}},
        "livenessProbe": {"httpGet": {"port": "web"}},
        "readinessProbe": {"httpGet": {"port": 80}},
    }
    value = pod(containers=[container])
    assert conform(value, "Pod") == []
    limits = value["spec"]["containers"][0]["resources"]["limits"]
    assert limits == {"cpu": "1", "memory": "64Mi"}


@pytest.mark.parametrize("text", ["abc$", "a", "ab=c", "YWJj=", "YQ"])
def test_bad_base64_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="illegal base64 data at input byte"):
        conform({"data": {"k": text}}, "Secret")


@pytest.mark.parametrize("text", ["", "YQ==", "YWI=", "YWJj", "YWJj\nYWJj"])
def test_good_base64_passes(text: str) -> None:
    assert conform({"data": {"k": text}}, "Secret") == []


@pytest.mark.parametrize("text", ["yesterday", "2026-13-01T00:00:00Z", "2026-01-01"])
def test_bad_times_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="parsing time"):
        conform({"spec": {"renewTime": text}}, "Lease")
