"""What docs/running.md and docs/telling.md show can be run: units, manifests, code, the image."""

import configparser
import re
import shlex
import tomllib
from pathlib import Path

import pytest
import yaml

from pipelines.config import NotifySection, TrackingSection, make_config
from pipelines.telling.textfile import gauges
from tests.pipelines.test_telling import configured, record

ROOT = Path(__file__).parents[2]
RUNNING = (ROOT / "docs/running.md").read_text()
TELLING = (ROOT / "docs/telling.md").read_text()
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def blocks(page: str, kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", page, re.DOTALL)


def instructions() -> list[tuple[str, str]]:
    """Of the Dockerfile: each one's name and the rest, continued lines joined."""
    text = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in lines)]


def test_the_image_copies_what_is_there_and_what_the_package_needs() -> None:
    copied = set()
    for name, rest in instructions():
        if name == "COPY" and not rest.startswith("--from="):
            *sources, _ = shlex.split(rest)
            copied |= set(sources)
    assert all((ROOT / source).exists() for source in copied)
    built = tomllib.loads((ROOT / "pyproject.toml").read_text())
    needed = {*built["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"], built["project"]["readme"]}
    assert copied >= needed | {"pyproject.toml", "constraints.txt", *built["project"]["license-files"]}
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert let_in == copied


def test_the_image_is_built_in_stages_and_runs_as_nobody_special() -> None:
    found = instructions()
    stages = [rest.partition(" AS ")[2] for name, rest in found if name == "FROM"]
    assert stages == ["python", "build", ""]
    last = dict(found[[name for name, _ in found].index("USER") - 5 :])
    assert int(last["USER"]) > 0 and last["ENTRYPOINT"] == '["recsys-ae"]' and last["VOLUME"] == last["WORKDIR"] == "/data"
    assert last["COPY"].startswith("--from=build ")
    arguments = dict(rest.partition("=")[::2] for name, rest in found if name == "ARG")
    assert all(f"| `{name}` |" in RUNNING for name in arguments)
    assert set(arguments["EXTRAS"].split(",")) <= set(EXTRAS) and f"`{arguments['BASE']}`" in RUNNING
    pinned = [rest for name, rest in found if "pip install" in rest]
    assert pinned and all("-c constraints.txt" in rest for rest in pinned)


def test_the_units_are_whole() -> None:
    units = {}
    for block in blocks(RUNNING, "ini"):
        parser = configparser.ConfigParser(interpolation=None)
        parser.optionxform = str
        parser.read_string(block)
        units[Path(block.splitlines()[0].removeprefix("# ")).name] = parser
    service, timer = units["recsys-ae.service"], units["recsys-ae.timer"]
    assert service["Service"]["Type"] == "oneshot" and service["Service"]["RestartPreventExitStatus"] == "2 3"
    assert service["Service"]["ExecStart"].endswith("recsys-ae nightly run.toml")
    assert timer["Timer"]["OnCalendar"] and timer["Install"]["WantedBy"] == "timers.target"


def test_the_cronjob_is_one_at_a_time_and_never_tries_a_refused_night_again() -> None:
    (job,) = (yaml.safe_load(block) for block in blocks(RUNNING, "yaml"))
    assert (job["apiVersion"], job["kind"], job["spec"]["concurrencyPolicy"]) == ("batch/v1", "CronJob", "Forbid")
    spec = job["spec"]["jobTemplate"]["spec"]
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    (rule,) = spec["podFailurePolicy"]["rules"]
    assert rule["action"] == "FailJob" and rule["onExitCodes"]["values"] == [2, 3]
    assert rule["onExitCodes"]["containerName"] == container["name"] and pod["restartPolicy"] == "Never"
    assert all("secretKeyRef" in variable["valueFrom"] for variable in container["env"])
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    assert any("persistentVolumeClaim" in volume for volume in pod["volumes"]) and container["resources"]["requests"]
    user = next(rest for name, rest in instructions() if name == "USER")
    assert pod["securityContext"]["runAsUser"] == int(user)


@pytest.mark.parametrize("code", blocks(RUNNING + TELLING, "python"))
def test_code_that_is_shown_compiles(code: str) -> None:
    compile(code, "docs", "exec")


def test_the_variables_named_are_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    named = set(re.findall(r"RECSYS_AE__\w+", RUNNING + TELLING))
    assert len(named) >= 4
    assert "RECSYS_AE__SCORE__URL" in named
    for name in named:
        monkeypatch.setenv(name, "https://host/path")
    config = make_config({"log": {"query": "select 1"}, "score": {"table": "lists"}})
    for name in named:
        section, key = name.removeprefix("RECSYS_AE__").lower().split("__")
        assert getattr(getattr(config, section), key).get_secret_value() == "https://host/path"


def test_all_that_is_told_is_documented(tmp_path: Path) -> None:
    (shown,) = blocks(TELLING, "toml")
    told = make_config({"log": {"path": "log.csv"}, **tomllib.loads(shown)})
    assert told.notify.url is not None and told.tracking.mlflow
    for key in (*NotifySection.model_fields, *TrackingSection.model_fields):
        assert re.search(rf"\b{key}\b", TELLING), key
    night = record(configured(), tmp_path)
    for family in gauges(night).collect():
        assert f"`{family.name.removeprefix('recsys_ae_night_')}`" in TELLING, family.name
    for key in night.as_json():
        assert f"`{key}`" in TELLING, key
    alerts = [rule["expr"] for rule in yaml.safe_load(blocks(TELLING, "yaml")[0])]
    known = {family.name for family in gauges(night).collect()}
    assert all(set(re.findall(r"recsys_ae_night_\w+", alert)) <= known for alert in alerts)
