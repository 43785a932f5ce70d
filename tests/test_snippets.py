"""What README.md and docs/*.md tell the reader to run does run: Python blocks, `imgclean` lines, and the options that they name."""

import ast
import hashlib
import re
import shlex
import shutil
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import NamedTuple

import pytest
from pictures import write_pictures
from typer.main import get_command
from typer.testing import CliRunner

REPO = Path(__file__).parents[1]
PAGES = [REPO / "README.md", *sorted(REPO.glob("docs/*.md"))]
LANGUAGES = {"python", "bash", "json", "text", "toml", "csv", "html"}

DOORS = ("imgclean", "python -m imgclean.benchmark")
# Blocks marked `no-run`, as "page: first line" -> why; the test prints them.
NOT_RUN = {
    "scale.md: pip install 'imgclean[ray]'": "needs Ray and a bucket",
    "scale.md: from imgclean.all import *": "needs Ray and a bucket",
    'decisions.md: {"imgclean": "decisions", "version": 1,': "digests are shortened",
}
# Lines in bash blocks that are parsed or left alone, by how they begin -> why; the test prints them.
NOT_RUN_LINES = {
    "python3 -m venv ": "makes an environment and fills it from the network",
    "pip install ": "needs the network",
    "imgclean similar https://": "needs the network; its options are parsed",
    "imgclean demo": "is run by a test of its own; its options are parsed",
    "imgclean benchmark ": "takes hours; its options are parsed",
    "python -m imgclean.benchmark ": "takes hours; its options are parsed",
}


class Block(NamedTuple):
    "A fenced block of a page"

    page: Path
    line: int  # of its first line
    info: str  # what follows the fence: "python", "bash no-run", …
    text: str

    @property
    def name(self) -> str:
        return f"{self.page.name}: {self.text.splitlines()[0]}"


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = re.finditer(r"^```(.*)\n((?:.*\n)*?)```$", text, re.MULTILINE)
    return [Block(page, text[: m.start(2)].count("\n") + 1, m[1].strip(), m[2]) for m in found]


BLOCKS = {page: blocks_of(page) for page in PAGES}
ALL = [block for blocks in BLOCKS.values() for block in blocks]


def with_info(info: str) -> list[Path]:
    "Pages with blocks of that kind."
    return [page for page, blocks in BLOCKS.items() if any(b.info == info for b in blocks)]


def test_every_block_says_what_it_holds():
    for block in ALL:
        language, _, mark = block.info.partition(" ")
        assert language in LANGUAGES and mark in ("", "no-run"), (
            f"{block.page.name}:{block.line}: ```{block.info}"
        )


def test_blocks_that_are_not_run_say_why(capsys):
    marked = {block.name: block for block in ALL if block.info.endswith("no-run")}
    assert marked.keys() <= NOT_RUN.keys()
    for name, block in marked.items():
        if block.info.startswith("python"):
            ast.parse(block.text, name)
        with capsys.disabled():
            print(f"\nnot run: {name}: {NOT_RUN[name]}")


# A place to run them in


@pytest.fixture
def place(sample, tmp_path, monkeypatch):
    "The working folder of a page: the sample dataset, to be `path`, and what pages call `photos`, `path/to/images` and `cat.jpg`."
    shutil.copytree(sample.path, tmp_path / "sample", ignore=shutil.ignore_patterns(".imgclean", "*.csv"))
    shutil.copy(sample.path / "animal/cat.jpg", tmp_path / "cat.jpg")
    few = ["cat/a.jpg", "cat/b.jpg", "originals/a.jpg"]  # too few to plant copies among, which is quick
    for folder in ("photos", "path/to/images"):
        write_pictures(tmp_path / folder, few, [1, 2, 1])
    split = ["train/cat/1.jpg", "train/cat/2.jpg", "train/dog/1.jpg", "train/dog/2.jpg", "valid/cat/1.jpg"]
    write_pictures(tmp_path / "path/to/images", split, [3, 4, 5, 6, 3])
    _decide(tmp_path / "photos", tmp_path / "decisions.json")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("fastcore.foundation.defaults.cpus", 0)  # forking takes longer than so few images
    return tmp_path


def _decide(folder: Path, file: Path):
    from imgclean import Items, Review, export_decisions

    review = Review(Items.from_folder(folder), [(0, 2)], ledger=file.with_suffix(".jsonl"))
    review.keep_best()
    export_decisions(review, file, folder)


@pytest.fixture
def urls(place, monkeypatch):
    "Addresses of two pictures, served by this machine."
    monkeypatch.setenv("no_proxy", "127.0.0.1")

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=place / "sample/animal")) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield [f"http://127.0.0.1:{server.server_port}/{name}" for name in ("cat.jpg", "horse.jpg")]
        server.shutdown()


def small_learner(path: Path):
    "A Learner of the readable images with every label in its training set; it looks at 96 pixels, which is quick."
    from fastai.data.transforms import RandomSplitter
    from fastai.vision.augment import Resize

    from imgclean.dataset.items import Items
    from imgclean.features.backbones import default_learner

    items = Items.from_folder(path)
    items = items.subset([k for k, p in enumerate(items.paths) if p.name != "truncated.jpg"])

    def trains_on_all(seed: int) -> bool:
        train, _ = RandomSplitter(0.3, seed=seed)(items.paths)
        return {items.labels[k] for k in train} == set(items.labels)

    seed = next(filter(trains_on_all, range(1000)))
    return default_learner(items.dataloaders(valid_pct=0.3, seed=seed, item_tfms=Resize(96, "squish")))


def given(code: str, place: Path, request) -> dict:
    "What a page may use without having made it: `path`, `learn`, `ds`, `idxs` and `urls`; only what it reads is made."
    used = {node.id for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name)}
    names = {"__name__": "__main__", "path": place / "sample"}
    if "urls" in used:
        names["urls"] = request.getfixturevalue("urls")
    if used & {"learn", "ds", "idxs"}:
        names["learn"] = small_learner(names["path"])
    if "idxs" in used and not re.search(r"^\w+, idxs *=", code, re.MULTILINE):
        from imgclean.formatter import DatasetFormatter

        names["ds"], names["idxs"] = DatasetFormatter.from_similars(names["learn"], progress=False)
    return names


def pictures(folder: Path) -> dict[Path, bytes]:
    return {p: hashlib.sha256(p.read_bytes()).digest() for p in folder.rglob("*.jpg")}


# Python


def readme_shows_the_planted_groups(names):
    groups = [{names["ds"].relpath(k) for k in g} for g in names["idxs"]]
    from imgclean.dataset.samples import sample_dataset

    planted = [set(p.files) for p in sample_dataset(names["path"]).planted if len(p.files) > 1]
    assert all(any(files <= group for group in groups) for files in planted)
    assert names["cleaner"].review.path == names["path"]
    assert len(names["dls"].train_ds) + len(names["dls"].valid_ds) == len(names["ds"])


def v1_page_leaves_a_csv_without_three(names):
    rows = (names["path"] / "cleaned.csv").read_text().splitlines()
    assert rows[0] == "name,label" and len(rows) - 1 == len(names["ds"]) - 3
    assert len(names["labels"]) == len(names["corrector"].review.items)
    assert len(list((names["path"] / "new").glob("*.jpg"))) == len(names["urls"])


AFTERWARDS = {
    "README.md": readme_shows_the_planted_groups,
    "from_fastai_v1.md": v1_page_leaves_a_csv_without_three,
}


@pytest.mark.parametrize("page", with_info("python"), ids=lambda page: page.name)
def test_python_blocks_run(page, place, request):
    "Blocks of one page share their names, in order; none changes or removes a picture."
    import matplotlib.pyplot as plt

    python = [block for block in BLOCKS[page] if block.info == "python"]
    names, before = given("\n".join(b.text for b in python), place, request), pictures(place)
    for block in python:
        code = "\n" * (block.line - 1) + block.text  # so that a traceback names the line of the page
        exec(compile(code, str(page), "exec"), names)
    plt.close("all")
    after = pictures(place)
    assert before == {path: after.get(path) for path in before}
    AFTERWARDS.get(page.name, lambda names: None)(names)


def test_json_blocks_are_json():
    import json

    for block in ALL:
        if block.info == "json":
            json.loads(block.text)


# The shell


def door(words: list[str]) -> tuple:
    "The app that a command line starts, and the words that are left for it."
    if words[0] == "imgclean" and words[1:2] != ["benchmark"]:
        from imgclean.cli import app

        return app, words[1:]
    from imgclean.benchmark.__main__ import app

    return app, words[2:] if words[0] == "imgclean" else words[3:]


def innermost(app, words: list[str]) -> tuple:
    "The subcommand that `words` choose, and the words that are left; `None` for a name that there is not."
    command = get_command(app)
    while (
        hasattr(command, "commands") and words and re.match("[a-z]", words[0])
    ):  # not COMMAND, not an option
        command, words = command.commands.get(words[0]), words[1:]
    return command, words


def shell_lines(block: Block) -> list[str]:
    lines = block.text.replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]


@pytest.mark.parametrize("page", with_info("bash"), ids=lambda page: page.name)
def test_shell_lines_run_or_parse(page, place, capsys):
    for block in BLOCKS[page]:
        for line in shell_lines(block) if block.info == "bash" else []:
            reason = next((why for start, why in NOT_RUN_LINES.items() if line.startswith(start)), None)
            words = shlex.split(line, comments=True)
            if words[0] == "imgclean" and reason is None:
                from imgclean.cli import app

                result = CliRunner().invoke(app, words[1:])
                assert result.exit_code == 0, f"{line}\n{result.output}"
                continue
            if words[0] == "imgclean" or words[:3] == ["python", "-m", "imgclean.benchmark"]:
                command, left = innermost(*door(words))
                assert command is not None, line
                command.make_context(command.name, left)  # raises where a word, an option or a value is wrong
            else:
                assert reason, f"{page.name}: nothing runs or checks {line!r}; say why in NOT_RUN_LINES"
            with capsys.disabled():
                print(f"\nnot run: {page.name}: {line}: {reason}")


def options_of(command) -> set[str]:
    return {"--help"} | {o for p in command.params for o in (*p.opts, *p.secondary_opts) if o.startswith("-")}


def commands(command, path: tuple[str, ...] = ()):
    "Each command below `command`, itself included, with the words that lead to it."
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, (*path, name))


def test_commands_and_options_in_the_text_exist():
    anywhere = set()
    for start in DOORS:
        for _, command in commands(get_command(door(start.split())[0])):
            anywhere |= options_of(command)
    for page in PAGES:
        for span in re.findall(r"`([^`\n]+)`", page.read_text(encoding="utf-8")):
            words, known = span.split(), anywhere
            if span.startswith(tuple(f"{start} " for start in DOORS)):
                command, words = innermost(*door(words))
                assert command is not None, f"{page.name}: `{span}`"
                known = options_of(command)
            elif not span.startswith("--"):
                continue
            named = {word.split("=")[0] for word in words if re.match(r"--?[a-z]", word)}
            assert named <= known, f"{page.name}: `{span}`: {named - known}"


@pytest.mark.parametrize("start", DOORS)
def test_help_names_every_option(start):
    app, _ = door(start.split())
    found = list(commands(get_command(app)))
    assert len(found) > 5
    for path, command in found:
        if command.context_settings.get("allow_extra_args"):
            continue  # `imgclean benchmark` hands all its words on, to what is the other case of this test
        wide = {"COLUMNS": "200", "TERM": "dumb"}  # so that rich breaks no name
        result = CliRunner().invoke(app, [*path, "--help"], env=wide)
        text = re.sub(r"\x1b\[[0-9;]*m", "", result.output)
        assert result.exit_code == 0, (path, result.output)
        hidden = {o for p in command.params if getattr(p, "hidden", False) for o in p.opts}
        named = {o for o in options_of(command) if re.search(rf"(?<![\w-]){re.escape(o)}(?![\w-])", text)}
        assert options_of(command) - hidden <= named, f"{' '.join(path)}: {options_of(command) - named}"
