"""What is registered with Prefect: deployments, work pool, compose file."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from flows.cyborgs import cyborgs
from flows.stage import cyborgs_stage
from flows.study import study
from flows.work_pools import DEFAULTS, POOL, QUEUES, TEMPLATES, device_requests, read_template
from schemas.errors import ConfigError
from schemas.stages import STAGE_NAMES, STAGE_PURPOSES

ROOT = Path(__file__).parents[2]
PATHS = {"CYBORGS_STORAGE_PATH": "/srv/runs", "CYBORGS_DATA_PATH": "/srv/photographs"}


def deployments() -> dict[str, dict[str, Any]]:
    loaded = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    full = {f"{each['entrypoint'].rpartition(':')[2]}/full": each for each in loaded if each["name"] == "full"}
    return full | {each["name"]: each for each in loaded if each["name"] != "full"}


def test_one_deployment_for_each_stage_one_for_all_and_one_for_studies() -> None:
    found = deployments()
    assert set(found) == {"cyborgs/full", "study/full", *STAGE_NAMES}
    assert {name: found[name]["description"] for name in STAGE_NAMES} == STAGE_PURPOSES
    for each in found.values():
        assert each["pull"] == [{"prefect.deployments.steps.set_working_directory": {"directory": "/opt/cyborgs"}}]
        assert each["work_pool"]["name"] == POOL
        assert each["work_pool"]["work_queue_name"] in QUEUES
        path, function = each["entrypoint"].split(":")
        assert f"def {function}(" in (ROOT / path).read_text()


def test_what_needs_a_gpu_shares_one_slot_and_the_parent_is_elsewhere() -> None:
    queues = {name: each["work_pool"]["work_queue_name"] for name, each in deployments().items()}
    assert {name for name, queue in queues.items() if queue == "gpu"} == {*STAGE_NAMES} - {"index-images"}
    assert QUEUES["gpu"] == 1
    assert QUEUES[queues["cyborgs/full"]] is QUEUES[queues["study/full"]] is None


@pytest.mark.parametrize(
    ("flow", "names"),
    [
        (cyborgs, {"config", "set", "data", "run"}),
        (cyborgs_stage, {"run", "cycle", "force"}),
        (study, {"study", "root", "data", "smoke"}),
    ],
    ids=["cyborgs", "stage", "study"],
)
def test_every_parameter_of_the_form_has_help(flow: Any, names: set[str]) -> None:
    properties = flow.parameters.properties
    assert set(properties) == names
    for name, described in properties.items():
        assert len(described["description"]) > 10, name
        assert "default" in described or name in flow.parameters.required


@pytest.mark.parametrize("kind", ["docker", "kubernetes"])
def test_a_template_has_a_variable_for_every_placeholder_and_uses_all(kind: str) -> None:
    template = read_template(kind, PATHS)
    used = set(re.findall(r"\{\{ (\w+) \}\}", json.dumps(template["job_configuration"])))
    # Prefect lays the variable `env` over an `env` of the template by itself.
    assert used | {"env"} == set(template["variables"]["properties"])
    assert "${" not in json.dumps(template)
    jsonschema.Draft202012Validator.check_schema(template["variables"])


def test_the_docker_template_takes_what_env_says() -> None:
    given = {**PATHS, "CYBORGS_UID": "501", "CYBORGS_GPUS": "0,1", "CYBORGS_IMAGE": "registry/cyborgs:7"}
    variables = read_template("docker", given)["variables"]["properties"]
    assert variables["volumes"]["default"] == [
        "/srv/runs:/storage",
        "/srv/photographs:/data:ro",
        "cyborgs-cache:/cache",
    ]
    assert variables["user"]["default"] == "501:1000"
    assert variables["image"]["default"] == "registry/cyborgs:7"
    assert variables["device_requests"]["default"][0]["device_ids"] == ["0", "1"]


@pytest.mark.parametrize("name", list(PATHS))
@pytest.mark.parametrize("value", ["", "runs", "./runs"])
def test_a_path_that_is_not_absolute_is_refused(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}={re.escape(value)}: .*absolute"):
        read_template("docker", {**PATHS, name: value})


def test_gpus() -> None:
    assert device_requests("none") == []
    assert device_requests("all")[0]["count"] == -1
    with pytest.raises(ConfigError, match="CYBORGS_GPUS=0;1"):
        device_requests("0;1")


def test_every_name_of_the_templates_and_of_compose_is_explained_or_has_a_default() -> None:
    example = (ROOT / ".env.example").read_text()
    compose = (ROOT / "docker-compose.yml").read_text()
    for name in re.findall(r"\$\{(\w+):\?", compose):
        assert re.search(rf"^{name}=", example, flags=re.MULTILINE), name
    for template in TEMPLATES.glob("*.json"):
        for name in set(re.findall(r"\$\{(\w+)\}", template.read_text())) - set(PATHS):
            assert name in DEFAULTS, name


def test_compose_is_valid_under_the_compose_specification() -> None:
    command = [sys.executable, "-P", "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    checked = subprocess.run([*command, str(ROOT / "docker-compose.yml")], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_compose_binds_to_this_machine_alone_and_pins_images() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    for name, service in services.items():
        for port in service.get("ports", []):
            assert str(port).startswith("127.0.0.1:"), name
        assert "healthcheck" in service, name
        assert re.search(r":-[\w/.-]+:[\w.-]+\}$", service["image"]), name
    assert services["objects"]["profiles"] == ["objects"]
