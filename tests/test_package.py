"""The wheel works by itself, and the source distribution holds what the repository holds. Built offline from a copy."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from pages import data_of

REPO = Path(__file__).parents[1]
NOT_SHIPPED = (".ci/", ".github/", ".gitignore")
PAGE = ("cleaner.css", "report.css", "rows.js", "report.js")  # some of what a page is made of


@pytest.fixture(scope="module")
def tracked() -> set[str]:
    if not (REPO / ".git").exists():
        pytest.skip("this is no git checkout, so nothing tells which files belong to the package")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=REPO, capture_output=True, text=True, check=True)
    return {name for name in listed.stdout.split("\0") if name and (REPO / name).exists()}


@pytest.fixture(scope="module")
def built(tracked, tmp_path_factory) -> Path:
    "A folder with the source distribution of a copy of the tracked files, and the wheel that is made of it."
    pytest.importorskip("build", reason="build is not installed; pip install -e .[dev]")
    copy = tmp_path_factory.mktemp("source")
    for name in tracked:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(REPO / name, copy / name)
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", copy / "dist", copy, cwd=copy)
    return copy / "dist"


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory) -> Path:
    "The wheel in an empty folder; what it depends on is this environment's."
    target = tmp_path_factory.mktemp("installed")
    words = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--no-compile"]
    run(*words, "--target", target, wheel_in(built), cwd=target)
    return target


def wheel_in(folder: Path) -> Path:
    (wheel,) = folder.glob("*.whl")
    return wheel


def run(*words, cwd: Path, **env: str) -> str:
    "What a command prints on stdout; its stderr is shown where it fails."
    done = subprocess.run(
        [str(word) for word in words], cwd=cwd, env=os.environ | env, capture_output=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_holds_every_module_script_style_and_notebook(built, tracked):
    with zipfile.ZipFile(wheel_in(built)) as wheel:
        names = wheel.namelist()
    data = next(name for name in names if ".data/" in name).partition("/")[0] + "/data/share/imgclean/"
    expected = {name for name in tracked if name.startswith("imgclean/")}
    expected |= {data + name for name in tracked if name.startswith("nbs/")}
    assert {Path(name).suffix for name in expected} == {".py", ".js", ".css", ".ipynb"}
    assert {name for name in names if ".dist-info/" not in name} == expected


def test_the_source_distribution_holds_every_file(built, tracked):
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        names = {member.name.partition("/")[2] for member in tar if member.isfile()}
    made = {"PKG-INFO", "setup.cfg"} | {name for name in names if name.startswith("imgclean.egg-info/")}
    assert names - made == {name for name in tracked if not name.startswith(NOT_SHIPPED)}


def test_the_installed_wheel_opens_the_grid(installed, shop):
    code = f"""
import imgclean
cleaner = imgclean.ImageCleaner(imgclean.Items.from_folder({str(shop)!r}), [(0, 2), (1, 5)])
print(imgclean.__file__, imgclean.__version__, len(cleaner._esm), len(cleaner._css), sep="\\n")"""
    told = run(sys.executable, "-c", code, cwd=shop.parent, PYTHONPATH=str(installed))
    file, version, *sizes = told.splitlines()
    assert Path(file) == installed / "imgclean/__init__.py"
    assert (installed / f"imgclean-{version}.dist-info").is_dir()
    assert all(int(size) > 5000 for size in sizes)


def test_the_installed_demo_has_its_tutorial(installed):
    code = "from imgclean.cli.tools import _tutorial; print(_tutorial())"
    found = run(sys.executable, "-c", code, cwd=installed.parent, PYTHONPATH=str(installed))
    assert Path(found.strip()) == installed / "share/imgclean/nbs/01_find_duplicates.ipynb"


def test_the_installed_package_finds_the_same_bytes_as_this_one(installed, shop, tmp_path):
    "In a process of its own, whose hashes and random numbers are others; it starts no Ray unasked."
    from typer.testing import CliRunner

    from imgclean.cli import app

    command = shutil.which("imgclean", path=os.pathsep.join([f"{installed}/bin", f"{installed}/Scripts"]))
    assert "report" in run(command, "--help", cwd=tmp_path, PYTHONPATH=str(installed))
    (shop / "dog/d.jpg").rename(shop / "dog/猫.jpg")
    here, words = CliRunner(), ["find", str(shop), "--no-cache", "--json"]
    here.invoke(app, ["cache", "clear"])
    assert here.invoke(app, [*words, str(tmp_path / "here.json")]).exit_code == 0
    assert "vectors: 0" in here.invoke(app, ["cache", "info"]).stdout
    # One process for both, as another would import torch once more. Importing all of imgclean imports no Ray either.
    code = """import sys, imgclean.all
from imgclean.cli import app
from imgclean.scaleout import find_duplicates_ray
app(sys.argv[1:], standalone_mode=False)
app(["report", sys.argv[2], "-o", "report.html", "--min-similarity", "0.9", "--quiet"], standalone_mode=False)
sys.exit(f"{imgclean.__file__} imported Ray" if "ray" in sys.modules else 0)"""
    env = {"PYTHONPATH": str(installed), "PYTHONIOENCODING": "ascii"}  # as a terminal may know no more
    there = run(sys.executable, "-c", code, *words, tmp_path / "there.json", cwd=tmp_path, **env)
    assert r"\u732b.jpg" in there
    assert (tmp_path / "there.json").read_bytes() == (tmp_path / "here.json").read_bytes()
    shown = data_of(tmp_path / "report.html")
    assert sorted(len(group["images"]) for group in shown["groups"]) == [2, 3]
    sources = [(installed / "imgclean/review" / name).read_text(encoding="utf-8") for name in PAGE]
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert all(source.strip() in page for source in sources)
