"""Recipes, the Dockerfiles that build by them, and the manifests that run what is built."""

import json
import shlex
from pathlib import Path

import pytest
import yaml

from images.cached import RECIPES
from images.cloud import CLOUD, USER
from images.python import ROOT, members_of, pins_of
from images.recipe import Recipe

DOCKERFILES = {
    "edge": ROOT / "edge-image/Dockerfile",
    "hub": ROOT / "services/hub/Dockerfile",
    "controller": ROOT / "services/controller/Dockerfile",
    "device": ROOT / "services/device/Dockerfile",
    "apiserver": ROOT / "libs/apiserver/Dockerfile",
    "cli": ROOT / "libs/cli/Dockerfile",
}
RECIPE = "COPY images images"


def instructions(name: str) -> list[str]:
    """Return a Dockerfile's instructions, each on a line."""
    lines = DOCKERFILES[name].read_text().replace("\\\n", " ").splitlines()
    return [" ".join(line.split()) for line in lines if line and not line.startswith("#")]


def last_stage(name: str) -> list[str]:
    found = instructions(name)
    return found[len(found) - found[::-1].index("FROM scratch") :]


@pytest.fixture(params=sorted(RECIPES))
def made(request: pytest.FixtureRequest) -> Recipe:
    return RECIPES[request.param]


def test_every_image_has_a_dockerfile() -> None:
    assert set(DOCKERFILES) == set(RECIPES)
    there = {*ROOT.glob("libs/*/Dockerfile"), *ROOT.glob("services/*/Dockerfile")}
    assert there == set(DOCKERFILES.values()) - {DOCKERFILES["edge"]}


def test_dockerfile_runs_the_image_as_the_recipe_says(made: Recipe) -> None:
    stage, config = last_stage(made.short_name), made.config
    assert f"ENV {' '.join(config['Env'])}" in stage
    assert f"ENTRYPOINT {json.dumps(config['Entrypoint'])}" in stage
    assert [line for line in stage if line.startswith("CMD")] == (
        [f"CMD {json.dumps(config['Cmd'])}"] if "Cmd" in config else []
    )
    assert [line for line in stage if line.startswith("USER")] == (
        [f"USER {config['User']}"] if "User" in config else []
    )
    assert [line for line in stage if line.startswith("STOPSIGNAL")] == (
        [f"STOPSIGNAL {config['StopSignal']}"] if "StopSignal" in config else []
    )
    checks = [line for line in stage if line.startswith("HEALTHCHECK")]
    assert [line.partition("CMD ")[2] for line in checks] == (
        [json.dumps(config["Healthcheck"]["Test"][1:])] if "Healthcheck" in config else []
    )


def test_dockerfile_builds_by_the_recipe_and_copies_what_it_needs(made: Recipe) -> None:
    lines = instructions(made.short_name)
    name = "" if made.short_name == "edge" else f"{made.short_name} "
    assert any(f"python -m images {name}--architecture" in line for line in lines)
    copied = []
    for line in lines:
        if line.startswith("COPY") and "--from" not in line:
            copied += shlex.split(line)[1:-1]
    assert all((ROOT / source).exists() for source in copied)
    needed = [Path(each) for each in (*members_of(*made.members), *made.copies.values())]
    assert all(any(each.is_relative_to(source) for source in copied) for each in needed)


def test_dockerfiles_have_the_first_stage_in_common() -> None:
    stages = {tuple(found[: found.index(RECIPE)]) for found in map(instructions, DOCKERFILES)}
    assert len(stages) == 1


def test_manifests_run_images_as_whom_the_recipes_say() -> None:
    services = 0
    for file in (ROOT / "deploy/k8s/base").glob("*.yaml"):
        for each in yaml.safe_load_all(file.read_text()):
            pod = ((each or {}).get("spec") or {}).get("template", {}).get("spec")
            if pod and any(c["image"].startswith("fedge/") for c in pod["containers"]):
                assert pod["securityContext"]["runAsUser"] == USER
                services += 1
    assert services == len(CLOUD) - len({"apiserver", "cli"})


def test_lock_is_split_into_one_pin_per_package() -> None:
    pins = pins_of("a_b==1 \\\n    --hash=sha256:1\n    # via c\nc==2 \\\n    --hash=x\n")
    assert pins == {
        "a-b": "a_b==1 \\\n    --hash=sha256:1\n    # via c\n",
        "c": "c==2 \\\n    --hash=x\n",
    }
