"""Keys, versions, quantities and references."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedge_objects import (
    InvalidKeyError,
    JsonObject,
    ObjectKey,
    Version,
    parse_quantity,
    references,
)

names = st.from_regex(r"[a-z0-9]([-a-z0-9.]{0,20}[a-z0-9])?", fullmatch=True)


@given(resource=names, namespace=st.one_of(st.just(""), names), name=names)
def test_key_is_read_as_it_was_written(resource: str, namespace: str, name: str) -> None:
    key = ObjectKey(resource, namespace, name)
    assert ObjectKey.parse(str(key)) == key


@pytest.mark.parametrize("text", ["", "pods", "pods/default", "pods//x", "/default/x"])
def test_key_without_three_parts_is_refused(text: str) -> None:
    with pytest.raises(InvalidKeyError, match="expected resource/namespace/name"):
        ObjectKey.parse(text)


def test_versions_compare_by_decision_before_revision() -> None:
    assert Version(97, 85) > Version(95, 200) > Version(95, 85)
    assert Version.parse(str(Version(97, 85))) == Version(97, 85)


@pytest.mark.parametrize("text", ["", "7", "7.", ".7", "a.b", "-1.2", "1.2.3"])
def test_text_that_is_no_version_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no version"):
        Version.parse(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2", Decimal(2)),
        ("500m", Decimal("0.5")),
        ("64Mi", Decimal(64 * 1024**2)),
        ("512Ki", Decimal(512 * 1024)),
        ("1k", Decimal(1000)),
        ("1e3", Decimal(1000)),
        ("2E", Decimal(2 * 10**18)),
        (0.5, Decimal("0.5")),
    ],
)
def test_quantity_is_a_number_in_its_base_unit(text: str | float, value: Decimal) -> None:
    assert parse_quantity(text) == value


@pytest.mark.parametrize("text", ["", "Mi", "64MB", "one", "Gi1"])
def test_text_that_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no quantity"):
        parse_quantity(text)


def test_pod_refers_to_everything_it_names_in_any_container_and_volume() -> None:
    pod: JsonObject = {
        "metadata": {"namespace": "shop", "name": "till"},
        "spec": {
            "serviceAccountName": "clerk",
            "imagePullSecrets": [{"name": "pull"}],
            "volumes": [
                {"name": "a", "configMap": {"name": "cm-volume"}},
                {"name": "b", "secret": {"secretName": "s-volume"}},
                {
                    "name": "c",
                    "projected": {
                        "sources": [
                            {"configMap": {"name": "cm-projected"}},
                            {"secret": {"name": "s-projected"}},
                        ]
                    },
                },
                {"name": "d", "emptyDir": {}},
            ],
            "initContainers": [
                {"name": "i", "envFrom": [{"configMapRef": {"name": "cm-init"}}]},
            ],
            "containers": [
                {
                    "name": "m",
                    "envFrom": [{"secretRef": {"name": "s-env-from"}}],
                    "env": [
                        {"name": "A", "value": "plain"},
                        {
                            "name": "B",
                            "valueFrom": {"configMapKeyRef": {"name": "cm-env", "key": "k"}},
                        },
                        {
                            "name": "C",
                            "valueFrom": {"secretKeyRef": {"name": "s-env", "key": "k"}},
                        },
                    ],
                }
            ],
        },
    }
    assert {str(key) for key in references(pod)} == {
        "serviceaccounts/shop/clerk",
        "configmaps/shop/cm-volume",
        "configmaps/shop/cm-projected",
        "configmaps/shop/cm-init",
        "configmaps/shop/cm-env",
        "secrets/shop/pull",
        "secrets/shop/s-volume",
        "secrets/shop/s-projected",
        "secrets/shop/s-env-from",
        "secrets/shop/s-env",
    }
