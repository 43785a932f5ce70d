"""The walls of docs/architecture.md, held by reading the imports and calls of every file."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "imgclean"
FILES = {
    p.relative_to(PACKAGE).as_posix(): ast.parse(p.read_text(encoding="utf-8")) for p in PACKAGE.rglob("*.py")
}
ROOMS = ["dataset", "features", "find", "review"]  # upstream first
DOORS = {"cli", "benchmark", "scaleout"}
WRITES = {
    "write_text",
    "write_bytes",
    "mkdir",
    "unlink",
    "rename",
    "replace",
    "rmdir",
    "rmtree",
    "copyfile",
    "copy",
    "move",
}


def imports(name: str, tree: ast.AST) -> list[str]:
    "Dotted names that a file imports, relative ones spelled out."
    here = ["imgclean", *name.split("/")[:-1]]
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(here[: len(here) - node.level + 1]) + "." if node.level else ""
            found += [base + (node.module or "") + "." + alias.name for alias in node.names]
    return [name.replace("..", ".") for name in found]


@pytest.mark.parametrize("name", FILES)
def test_imports_point_upstream(name):
    room = name.split("/")[0]
    if room not in ROOMS:
        return
    allowed = ROOMS[: ROOMS.index(room) + 1]
    for target in imports(name, FILES[name]):
        if target.startswith("imgclean."):
            assert target.split(".")[1] in allowed, f"{name} imports {target}, which lies downstream"


@pytest.mark.parametrize("name", FILES)
def test_nobody_imports_a_door(name):
    doors = DOORS - {name.split("/")[0]}  # a door may have several files
    if name in ("all.py", "cli/finding.py", "cli/reviewing.py", "benchmark/scaled.py"):
        doors -= {"scaleout"}
    ours = [t.split(".")[1] for t in imports(name, FILES[name]) if t.startswith("imgclean.")]
    assert not doors & set(ours)


@pytest.mark.parametrize("name", FILES)
def test_fastai_is_used_only_where_a_learner_is(name):
    if name.startswith(("features/", "benchmark/")) or name in (
        "formatter.py",
        "query.py",
        "find/siamese.py",
        "find/siamese_head.py",
    ):
        return
    top = [node for node in FILES[name].body if isinstance(node, (ast.Import, ast.ImportFrom))]
    heavy = [
        t for t in imports(name, ast.Module(top, [])) if t.split(".")[0] in ("fastai", "timm", "torchvision")
    ]
    assert not heavy, f"{name} imports {heavy}"
    inside = [t for t in imports(name, FILES[name]) if t.split(".")[0] == "fastai"]
    # `Items.dataloaders` hands a dataset back to fastai, and imports it when it is called; Ray's workers get a Learner's model.
    assert not inside or name in ("dataset/items.py", "scaleout/__init__.py", "scaleout/looking.py")


@pytest.mark.parametrize("name", FILES)
def test_widgets_are_used_only_by_the_cleaner(name):
    if name != "review/cleaner.py":
        assert not [t for t in imports(name, FILES[name]) if t.split(".")[0] in ("anywidget", "ipywidgets")]


def test_review_needs_no_torch():
    import subprocess
    import sys

    code = (
        "import sys, imgclean.review.cleaner; print(sorted({'torch', 'fastai', 'pandas'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


@pytest.mark.parametrize("name", FILES)
def test_only_dataset_writes_files(name):
    if name.startswith(("dataset/", "benchmark/", "cli/", "scaleout/")) or name == "features/cache.py":
        # The cache writes its own file, the command line the one that --json names, a run on Ray into its folder.
        return
    calls = [node for node in ast.walk(FILES[name]) if isinstance(node, ast.Call)]
    writes = [c.func.attr for c in calls if isinstance(c.func, ast.Attribute) and c.func.attr in WRITES]
    opens = [c for c in calls if isinstance(c.func, ast.Name) and c.func.id == "open"]
    strings = [node for node in calls if "replace" in writes and _is_text(node)]
    assert len(writes) == len(strings) and not opens, f"{name} writes files: {writes}"


def _is_text(call: ast.Call) -> bool:
    "str.replace and dataclasses.replace take no path."
    return isinstance(call.func, ast.Attribute) and call.func.attr == "replace" and len(call.args) == 2


def test_find_opens_no_file():
    readers = {"PIL", "pathlib", "cv2"}
    arrays_only = {
        "find/align.py": {"PIL", "cv2"},
        "find/edits.py": {"cv2"},
        "find/tiny.py": {"cv2"},
        "find/siamese.py": {"PIL"},
        "find/finder.py": {"pathlib"},
    }  # what they may import all the same
    for name, tree in FILES.items():
        if name.startswith("find/") and name != "find/verify.py":
            used = {t.split(".")[0] for t in imports(name, tree)} & readers
            assert not used - arrays_only.get(name, set()), name
            calls = [
                n.func.attr
                for n in ast.walk(tree)
                if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)
            ]
            assert (
                not {"imread", "imwrite", "open", "VideoCapture"} & set(calls) or name not in arrays_only
            ), name


def test_no_file_is_longer_than_400_lines():
    for path in [*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.js"), *PACKAGE.rglob("*.css")]:
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 400, f"{path.name} is two files"
