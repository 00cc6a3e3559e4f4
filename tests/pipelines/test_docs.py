"""The documentation is true: every model, command and section that exists is written down, and what is linked exists."""

import re
import tomllib
from pathlib import Path
from typing import get_args

import pytest

from pipelines.__main__ import app
from pipelines.commands.datasets import datasets_app
from pipelines.commands.registry import registry_app
from pipelines.config import LogSection, SplitSection, load_config, make_config
from recsys_ae.datasets import CATALOGUE
from recsys_ae.datasets.generator import PRESETS, Attack, GeneratorConfig
from recsys_ae.models import MODELS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_every_model_has_a_heading() -> None:
    headings = re.findall(r"^## (\S+)$", (ROOT / "docs/models.md").read_text(), re.MULTILINE)
    assert sorted(headings) == sorted(MODELS)


def test_every_split_and_its_keys_have_a_heading() -> None:
    text = (ROOT / "docs/splits.md").read_text()
    kinds = get_args(SplitSection.model_fields["kind"].annotation)
    assert sorted(re.findall(r"^## (\w+)$", text, re.MULTILINE)) == sorted(kinds)
    for key in SplitSection.model_fields:
        assert f"`{key}" in text, key


def test_every_command_is_in_the_readme_or_the_changelog() -> None:
    text = README + (ROOT / "CHANGELOG.md").read_text()
    for command in app.registered_commands:
        assert command.callback is not None
        name = command.name or command.callback.__name__
        assert re.search(rf"(recsys-ae |`){name}\b", text), name
        assert command.callback.__doc__


def test_every_command_of_the_registry_is_on_its_page() -> None:
    text = (ROOT / "docs/registry.md").read_text()
    assert {"list", "show", "promote", "rollback"} <= {command.name for command in registry_app.registered_commands}
    for command in registry_app.registered_commands:
        assert f"registry {command.name}" in text, command.name


def test_every_preset_and_parameter_of_the_generator_is_documented() -> None:
    text = (ROOT / "docs/generator.md").read_text()
    for name in (*PRESETS, *GeneratorConfig.model_fields):
        assert re.search(rf"`{name}`|generate {name}\b", text), name
    for name in Attack.model_fields:
        assert re.search(rf"\b{name}\b", text), name


def test_the_configuration_of_the_readme_is_valid() -> None:
    blocks = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
    assert blocks
    for block in blocks:
        make_config(tomllib.loads(block))


def test_the_sample_configuration_is_valid() -> None:
    assert {m.key for m in load_config(ROOT / "data/sample.toml").models} == {"popularity", "ease", "mult_vae"}


@pytest.mark.parametrize("page", sorted(str(p.relative_to(ROOT)) for p in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]))
def test_links_lead_somewhere(page: str) -> None:
    prose = re.sub(r"```.*?```", "", (ROOT / page).read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\((?!http)([^)#]+)", prose):
        assert ((ROOT / page).parent / target).exists(), f"{page}: {target}"


def test_every_public_set_is_documented_with_address_terms_counts_and_command() -> None:
    page = (ROOT / "docs/datasets.md").read_text()
    sections = dict(re.findall(r"^### (\S+)\n(.*?)(?=^### |\Z)", page, re.MULTILINE | re.DOTALL))
    assert list(sections) == list(CATALOGUE)
    for name, public in CATALOGUE.items():
        counts = public.counts
        assert f"| `{name}` | {counts.users:,} | {counts.items:,} | {counts.interactions:,} |" in page
        assert all(said in sections[name] for said in (public.home, public.licence.url, f"`recsys-ae datasets fetch {name}`"))
    for block in re.findall(r"```toml\n(.*?)```", page, re.DOTALL):
        make_config(tomllib.loads(block))
    commands = {command.name for command in datasets_app.registered_commands}
    assert commands == set(re.findall(r"recsys-ae datasets (\w+)", page + (ROOT / "docs/generator.md").read_text()))


def test_every_key_of_a_log_is_documented() -> None:
    text = README + (ROOT / "docs/logs.md").read_text() + (ROOT / "docs/datasets.md").read_text()
    for key in LogSection.model_fields:
        assert re.search(rf"\b{key}\b", text), key
