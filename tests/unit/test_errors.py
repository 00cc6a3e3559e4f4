import re

import pytest

from recsys_ae import errors


def drawn() -> dict[str, str]:
    """Class name -> parent's name, from the tree in the module's docstring."""
    parents, path = {}, []
    for line in (errors.__doc__ or "").splitlines():
        if found := re.match(r"    ([│├└─ ]*)(\w+Error)\b", line):
            depth = len(found[1]) // 4
            path = [*path[:depth], found[2]]
            parents[found[2]] = path[depth - 1] if depth else "Exception"
    return parents


def real() -> dict[str, str]:
    return {
        name: kind.__base__.__name__
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, Exception)
    }


def test_tree_drawn_in_the_docstring_is_the_real_one() -> None:
    assert drawn() == real()


@pytest.mark.parametrize("name", ["ConfigError", "LogError", "DataError", "UnknownIdError"])
def test_wrong_input_ends_with_exit_code_2(name: str) -> None:
    assert getattr(errors, name).exit_code == 2


@pytest.mark.parametrize("name", ["NotFittedError", "WidthError", "ArtifactError", "CheckpointError"])
def test_a_failed_job_ends_with_exit_code_1(name: str) -> None:
    assert getattr(errors, name).exit_code == 1


def test_exit_codes_are_those_of_the_docstring() -> None:
    for name, code in re.findall(r"(\w+Error)\b.*\(exit code (\d)\)", errors.__doc__ or ""):
        assert getattr(errors, name).exit_code == int(code), name
