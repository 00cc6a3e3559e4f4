"""Settings: arguments over the environment over the file over defaults; a fault says where it stands; all are documented."""

from pathlib import Path
from typing import Any

import pytest

from pipelines.config import load_config
from recsys_ae.errors import ConfigError
from service.settings import Settings
from service.sources import ELSEWHERE, load_settings, place, variable
from tests.service.test_app import command

PAGE = (Path(__file__).parents[2] / "docs" / "operating.md").read_text()
RUN = """
[log]
path = "ratings.csv"
[registry]
path = "versions"
[store]
url = "sqlite:///events.db"
[service]
largest_k = 7
threads = 2
keys = "keys.json"
cors_origins = ["https://shop.example"]
"""


def written(folder: Path, text: str) -> Path:
    (folder / "run.toml").write_text(text)
    return folder / "run.toml"


def refusal(folder: Path, text: str, **given: Any) -> str:
    """The message for a file."""
    with pytest.raises(ConfigError) as fault:
        load_settings(written(folder, text), given)
    return str(fault.value).replace(str(folder) + "/", "")


def test_arguments_over_environment_over_file_over_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECSYS_AE__SERVICE__THREADS", "3")
    monkeypatch.setenv("RECSYS_AE__REGISTRY__PATH", "of the environment")
    monkeypatch.setenv("recsys_ae__store__url", "sqlite:///other.db")  # names are read whatever their case
    found = load_settings(written(tmp_path, RUN), {"keys": Path("argument.json")})
    assert (found.largest_k, found.threads, found.registry) == (7, 3, Path("of the environment"))
    assert found.store is not None and found.store.get_secret_value() == "sqlite:///other.db"
    assert found.keys == Path("argument.json") and found.cors_origins == ["https://shop.example"]
    assert found.largest_history == 10_000
    assert load_settings(written(tmp_path, RUN), {"threads": 1, "registry": Path("r")}).threads == 1


def test_the_file_alone(tmp_path: Path) -> None:
    found = load_settings(written(tmp_path, RUN), {})
    assert found.store is not None and found.store.get_secret_value() == "sqlite:///events.db"
    # As every path of a run: from the folder in which the command runs, not from that of the file.
    assert (found.registry, found.keys) == (Path("versions"), Path("keys.json"))
    assert load_settings(written(tmp_path, "seed = 1"), {}).registry == Path("registry")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[service]\nlargest_kk = 1", "run.toml: [service] largest_kk: unknown key; expected largest_k"),
        ("[service]\nrate_limt = 1", "run.toml: [service] rate_limt: unknown key; expected rate_limit or rate_limit_store"),
        ("[service]\nregistry = 'a'", "run.toml: [service] registry: unknown key; expected [registry] path"),
        ("[service]\nstore = 'a'", "run.toml: [service] store: unknown key; expected [store] url"),
        ("[store]\nuri = 'a:pw@b'", "run.toml: [store] uri: unknown key; expected url"),
        ("[services]\nthreads = 1", "run.toml: [services]: unknown section; expected [service]"),
        ("store = 'a:pw@b'", "run.toml: store is a str; expected a section [store]"),
        ("[[service]]\nthreads = 1", "run.toml: service is a list; expected a section [service]"),
        ("[service]\nrate_limit = 'often'", "run.toml: [service] rate_limit: expected a rate as `100/second`"),
        ("[service]\nthreads = 0", "run.toml: [service] threads: Input should be greater than or equal to 1; found 0"),
        ("[service]\nstop_seconds = inf", "run.toml: [service] stop_seconds: Input should be a finite number; found inf"),
        ("[service]\ncors_origins = ['a', 1]", "run.toml: [service] cors_origins.1: Input should be a valid string; found 1"),
        ("[registry]\npath = 5", "run.toml: [registry] path: Input is not a valid path"),
        ("[service", "run.toml: is not valid TOML: "),
    ],
)
def test_a_fault_names_file_section_and_key(tmp_path: Path, text: str, message: str) -> None:
    assert refusal(tmp_path, text).startswith(message)


def test_a_fault_of_the_environment_or_an_argument_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert refusal(tmp_path, RUN, workers=0).startswith("--workers: ")
    monkeypatch.setenv("RECSYS_AE__SERVICE__LARGEST_K", "many")
    assert refusal(tmp_path, RUN).startswith("RECSYS_AE__SERVICE__LARGEST_K: ") and "'many'" in refusal(tmp_path, RUN)
    monkeypatch.setenv("RECSYS_AE__SERVICE__CORS_ORIGINS", "https://shop.example")
    assert refusal(tmp_path, RUN).startswith("RECSYS_AE__SERVICE__CORS_ORIGINS: is not JSON")


@pytest.mark.parametrize("secret", ["[store]\nurl = ['hush']", "[service]\nrate_limit_store = 'redis:hush'"])
def test_a_secret_is_in_no_message(tmp_path: Path, secret: str) -> None:
    message = refusal(tmp_path, secret)
    assert message.startswith("run.toml: [s") and "hush" not in message


def test_a_secret_is_in_no_representation() -> None:
    given = {"registry": "r", "store": "postgresql://me:hush@host/x", "rate_limit_store": "redis://:hush@host"}
    assert "hush" not in repr(Settings(**given)) and "hush" not in str(Settings(**given))  # type: ignore[arg-type]


def test_several_workers_do_not_count_each_for_itself(tmp_path: Path) -> None:
    text = "[service]\nworkers = 2\nrate_limit = '600/minute'"
    assert "with workers = 2 expected rate_limit_store = redis://HOST:PORT/DATABASE" in refusal(tmp_path, text)
    assert load_settings(written(tmp_path, text + "\nrate_limit_store = 'redis://host'"), {}).workers == 2
    assert load_settings(written(tmp_path, text), {"workers": 1}).workers == 1


def test_the_batch_jobs_leave_the_section_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECSYS_AE__SERVICE__RATE_LIMIT", "600/minute")  # in one environment for all of a machine
    config = load_config(written(tmp_path, RUN))
    assert config.registry.path == load_settings(tmp_path / "run.toml", {}).registry
    assert config.store.url == load_settings(tmp_path / "run.toml", {}).store


def test_the_command_reads_the_file(tmp_path: Path) -> None:
    ended = command("--config", str(written(tmp_path, "[service]\nlargest_kk = 1")))
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert ended.stderr.startswith(f"error: {tmp_path}/run.toml: [service] largest_kk: unknown key")
    ended = command("--config", str(written(tmp_path, f"[registry]\npath = '{tmp_path}/none'")))
    assert (ended.returncode, ended.stderr) == (2, f"error: {tmp_path}/none: no such folder; expected a registry\n")
    assert command().stderr == "error: expected --registry DIR, or the TOML file of a run\n"


def row(name: str) -> str:
    """A setting's line of the page."""
    field, (section, key) = Settings.model_fields[name], place(name)
    if name == "threads":  # whose default depends on the machine
        return f"| `threads` | cores, at most 4 | {field.description} |"
    default = field.default
    if default is None or field.is_required():
        shown = "none"
    elif isinstance(default, bool):
        shown = str(default).lower()
    else:
        shown = f"`{default}`" if isinstance(default, str | list) else f"{default:,}"
    return f"| `{key if section == 'service' else f'[{section}] {key}'}` | {shown} | {field.description} |"


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_stands_on_the_page(name: str) -> None:
    assert row(name) in PAGE.splitlines(), f"expected in docs/operating.md: {row(name)}"


def test_every_setting_has_a_variable_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len({variable(name) for name in Settings.model_fields}) == len(Settings.model_fields)
    for name in ELSEWHERE:
        monkeypatch.setenv(variable(name), "somewhere")
    found = load_settings(None, {})
    assert found.registry == Path("somewhere") and found.store is not None
