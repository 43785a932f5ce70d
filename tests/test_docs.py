"""What the README and the docs say is true of the code."""

import ast
import inspect
import re
from functools import cached_property
from importlib import import_module
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from typer.main import get_command

import imgclean
from imgclean.cli import app

REPO = Path(__file__).parents[1]
README = (REPO / "README.md").read_text(encoding="utf-8")
DOCS = "\n".join(p.read_text(encoding="utf-8") for p in sorted(REPO.glob("docs/*.md"))) + README


def test_the_readme_has_exactly_two_set_up_lines():
    lines = [line for line in README.splitlines() if line.startswith("python3 -m venv")]
    assert len(lines) == 2 and lines[0].endswith("imgclean demo") and "pytest" in lines[1]


def test_every_command_has_help_and_is_documented():
    for name, command in get_command(app).commands.items():
        assert command.help and f"imgclean {name}" in DOCS, name


def test_every_link_to_a_file_leads_somewhere():
    for page in [REPO / "README.md", *REPO.glob("docs/*.md")]:
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_link_to_elsewhere_is_well_formed():
    texts = [REPO / "README.md", REPO / "CHANGELOG.md", *REPO.glob("docs/*.md"), *REPO.glob("nbs/*.ipynb")]
    found = [
        link for path in texts for link in re.findall(r"\]\((http[^)]*)\)", path.read_text(encoding="utf-8"))
    ]
    assert found
    for link in found:
        parts = urlsplit(link)
        assert parts.scheme == "https" and re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9-]+)+", parts.netloc), link
        assert re.fullmatch(r"[\w/.~%+-]*", parts.path) and not parts.query, link


def test_every_file_is_in_the_picture_of_the_architecture():
    picture = (REPO / "docs/architecture.md").read_text(encoding="utf-8").split("```")[3]
    files = [p for p in (REPO / "imgclean").rglob("*") if p.suffix in (".py", ".js", ".css")]
    for path in files:
        if path.name != "__init__.py" or path.parent.name == "imgclean":
            assert path.name in picture, f"{path.name} is missing from docs/architecture.md"
    for name in re.findall(r"[\w]+\.(?:py|js|css)", picture):
        assert any(p.name == name for p in files), f"docs/architecture.md shows {name}, which does not exist"


@pytest.mark.parametrize("name", imgclean.__all__)
def test_every_public_name_is_explained(name):
    assert not unexplained(getattr(imgclean, name))


@pytest.mark.parametrize("home", sorted(set(imgclean._HOMES.values())))
def test_what_lies_beside_a_public_name_is_explained(home):
    "What public functions take and return is mostly defined there."
    module = import_module(f"imgclean.{home}")
    ours = [thing for thing in vars(module).values() if getattr(thing, "__module__", "") == module.__name__]
    public = [
        x for x in ours if (inspect.isclass(x) or inspect.isfunction(x)) and not x.__name__.startswith("_")
    ]
    assert public and not [name for thing in public for name in unexplained(thing)]


def unexplained(thing) -> list[str]:
    "A class or function without a docstring of its own, and public methods and properties of the class without any."
    bare = [] if thing.__doc__ and not thing.__doc__.startswith(f"{thing.__name__}(") else [thing.__name__]
    if isinstance(thing, type):
        kinds = (property, cached_property, classmethod, staticmethod)
        public = {
            m: x
            for m, x in vars(thing).items()
            if not m.startswith("_") and (callable(x) or isinstance(x, kinds))
        }
        bare += [f"{thing.__name__}.{m}" for m in public if not inspect.getdoc(getattr(thing, m))]
    return bare


def test_all_offers_the_same_names_and_none_of_fastais():
    import fastai.vision.all as fastai

    import imgclean.all as everything

    assert sorted(everything.__all__) == sorted(imgclean.__all__)
    taken = {name for name in everything.__all__ if hasattr(fastai, name)}
    assert not taken, f"these would shadow fastai's: {taken}"


def test_unknown_names_are_refused():
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        imgclean.nonsense  # noqa: B018


def test_importing_the_package_imports_nothing_heavy():
    import subprocess
    import sys

    code = "import sys, imgclean, imgclean.cli; print(sorted({'torch', 'numpy', 'PIL', 'fastai', 'rich.table'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_every_module_says_what_it_holds():
    for path in (REPO / "imgclean").rglob("*.py"):
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path
