"""The documentation is true: every model, command and section that exists is written down, and what is linked exists."""

import re
import tomllib
from pathlib import Path

import pytest

from pipelines.__main__ import app, registry_app
from pipelines.config import load_config, make_config
from recsys_ae.datasets.generator import PRESETS, Attack, GeneratorConfig
from recsys_ae.models import MODELS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_every_model_has_a_heading() -> None:
    headings = re.findall(r"^## (\S+)$", (ROOT / "docs/models.md").read_text(), re.MULTILINE)
    assert sorted(headings) == sorted(MODELS)


def test_every_command_is_in_the_readme_or_the_changelog() -> None:
    text = README + (ROOT / "CHANGELOG.md").read_text()
    for command in app.registered_commands:
        assert command.callback is not None
        name = command.name or command.callback.__name__
        assert re.search(rf"(recsys-ae |`){name}\b", text), name
        assert command.callback.__doc__
    assert {c.name for c in registry_app.registered_commands} == {"list", "show", "promote", "rollback"}


def test_every_preset_and_parameter_of_the_generator_is_documented() -> None:
    text = (ROOT / "docs/generator.md").read_text()
    for name in (*PRESETS, *GeneratorConfig.model_fields):
        assert re.search(rf"`{name}`|generate {name}\b", text), name
    for name in Attack.model_fields:
        assert re.search(rf"\b{name}\b", text), name
    assert "recsys-ae datasets generate" in text


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
