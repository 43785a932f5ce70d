import json
import os
import sys
from functools import partial

import nbformat
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("ray.data", reason="Ray Data is not installed; pip install 'imgclean[ray]'")

from fakes import files, names, vectors, write_embeddings
from pictures import picture
from ray import cloudpickle
from typer.testing import CliRunner

from imgclean.cli import app
from imgclean.dataset.items import Items
from imgclean.find.pairs import Pairs
from imgclean.find.similarity import similar_pairs
from imgclean.formatter import groups_of
from imgclean.review.cleaner import ImageCleaner
from imgclean.review.report import write_report
from imgclean.scaleout.images import Images
from imgclean.scaleout.results import is_results, protected_rows, read_results, write_results
from imgclean.scaleout.tables import number_rows

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test
LOW = 0.9
ABOUT = {"settings": {"score": "cosine"}, "seconds": {"embed": 1.5}}


def read(folder, ids):
    "A bucket that is a folder; one file is gone."
    for name in reversed(ids):
        path = folder / name
        yield name, path.read_bytes() if path.exists() else None, "gone"


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    "Sixty pictures with vectors that say which are alike, and their pairs."
    folder = tmp_path_factory.mktemp("shop")
    x, ids = vectors(60, copies=25), names(60)
    for k, name in enumerate(ids):
        path = folder / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(k, (60 + k % 7, 50)).save(path)
    embeddings = write_embeddings(folder / "embeddings", ids, x)
    return folder, x, embeddings, similar_pairs(x, min_similarity=LOW)


def test_groups_are_those_of_one_machine(shop, small_ray, tmp_path, monkeypatch):
    folder, x, embeddings, pairs = shop
    monkeypatch.setattr("imgclean.scaleout.results.BATCH", 5)
    said = write_results(number_rows(embeddings), tmp_path, pairs, Images(folder / "images"), about=ABOUT)
    ds, found = read_results(tmp_path)
    wanted = groups_of(x, Items.from_folder(folder / "images"), min_similarity=LOW, method="exact")
    assert list(map(tuple, found)) == list(map(tuple, wanted)) and len(found) == said["groups"] > 5
    assert len(list((tmp_path / "grouping").glob("part-*.parquet"))) > 2
    for mine, theirs in zip(found, wanted, strict=True):
        assert (mine.similarity, mine.reason) == (theirs.similarity, theirs.reason)
        np.testing.assert_allclose(mine.scores, theirs.scores, atol=1e-6)
    assert list(found.pairs) == list(pairs)
    assert ds == Items.from_folder(folder / "images") and found.settings["score"] == "cosine"


def test_a_review_a_page_and_a_cleaned_dataset_come_of_it(shop, small_ray, tmp_path):
    folder, _, embeddings, pairs = shop
    write_results(number_rows(embeddings), tmp_path / "out", pairs, Images(folder / "images"), about=ABOUT)
    ds, groups = read_results(tmp_path / "out")
    page = write_report(ds, groups, tmp_path / "page.html", dataset=ds.root)
    assert page.stat().st_size > 10_000
    cleaner = ImageCleaner(ds, groups, tmp_path, duplicates=True)
    cleaner.review.mark([groups[0][1]], "delete")
    cleaner.apply()
    assert len(cleaner.cleaned()) == len(ds) - 1


def test_the_command_line_opens_results(shop, small_ray, tmp_path):
    folder, _, embeddings, pairs = shop
    write_results(number_rows(embeddings), tmp_path / "out", pairs, Images(folder / "images"), about=ABOUT)
    page, notebook = tmp_path / "page.html", tmp_path / "review.ipynb"

    def run(*words):
        return CliRunner().invoke(app, [str(word) for word in words])

    said = run("report", tmp_path / "out", "-o", page)
    assert said.exit_code == 0, said.output
    found = read_results(tmp_path / "out")
    assert page.read_bytes() == write_report(*found, tmp_path / "own.html").read_bytes()
    said = run("review", tmp_path / "out", "--notebook", notebook, "--no-open")
    assert said.exit_code == 0, said.output
    code = nbformat.read(notebook, 4).cells[1].source
    shown = {}
    exec(code.removesuffix("cleaner"), shown)
    assert (
        list(map(tuple, shown["idxs"])) == list(map(tuple, found[1]))
        and shown["cleaner"].review.items == found[0]
    )
    said = run("report", tmp_path / "out", "-o", page, "--min-similarity", "0.9")
    assert said.exit_code == 2 and "give it alone" in said.output


def test_images_of_a_bucket_are_fetched_for_the_groups_alone(shop, small_ray, tmp_path):
    folder, _, embeddings, pairs = shop
    bucket = Images(fetch=partial(read, folder / "images"))
    bad = pa.table({"id": ["a/broken.png"], "error": ["the file is empty"]})
    (tmp_path / "far/unreadable").mkdir(parents=True)
    pq.write_table(bad, tmp_path / "far/unreadable/part-0.parquet")
    write_results(number_rows(embeddings), tmp_path / "far", pairs, bucket, about=ABOUT)
    write_results(number_rows(embeddings), tmp_path / "near", pairs, Images(folder / "images"), about=ABOUT)
    ds, groups = read_results(tmp_path / "far")
    near, wanted = read_results(tmp_path / "near")
    assert [[ds.relpath(k) for k in g] for g in groups] == [[near.relpath(k) for k in g] for g in wanted]
    assert len(ds) == sum(map(len, groups)) and ds.root == tmp_path / "far/images"
    assert groups.looked_at == 60  # which is told, not the few that were fetched
    [told] = ds.unreadable
    assert (told.path, told.error) == (ds.root / "a/broken.png", "the file is empty")
    assert all(
        path.read_bytes() == (folder / "images" / ds.relpath(k)).read_bytes()
        for k, path in enumerate(ds.paths)
    )
    assert {(ds.relpath(i), ds.relpath(j), s) for i, j, s in groups.pairs} <= {
        (near.relpath(i), near.relpath(j), s) for i, j, s in wanted.pairs
    }


def test_a_chain_is_no_group(small_ray, tmp_path):
    turn = np.deg2rad(np.arange(6) * 10)
    x = np.stack([np.cos(turn), np.sin(turn)], axis=1).astype(np.float32)
    for k, name in enumerate(names(6)):
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        picture(k).save(tmp_path / "images" / name)
    embeddings = write_embeddings(tmp_path / "embeddings", names(6), x, 2)
    pairs = similar_pairs(x, min_similarity=0.98)  # each with the next alone
    assert len(pairs) == 5
    write_results(number_rows(embeddings), tmp_path / "out", pairs, Images(tmp_path / "images"), about=ABOUT)
    assert max(map(len, read_results(tmp_path / "out")[1])) == 3


def test_what_is_protected_is_kept(shop, small_ray, tmp_path):
    folder, _, embeddings, pairs = shop
    safe = names(60)[int(pairs.i[0])]
    write_results(
        number_rows(embeddings), tmp_path, pairs, Images(folder / "images"), protect=[safe], about=ABOUT
    )
    ds, groups = read_results(tmp_path)
    [group] = [g for g in groups if safe in map(ds.relpath, g)]
    assert ds.relpath(group[0]) == safe and group.protected == (group[0],) and groups.protected == {group[0]}


def test_protect_takes_ids_and_folders_and_refuses_what_holds_nothing(shop):
    numbering = number_rows(shop[2])
    assert protected_rows(numbering, ["0001", "0000/00003.png"]).tolist() == [3, *range(10, 20)]
    with pytest.raises(ValueError, match="'000', where none"):
        protected_rows(numbering, ["000"])


def test_no_pairs_are_no_groups(shop, small_ray, tmp_path):
    folder, _, embeddings, _ = shop
    write_results(
        number_rows(embeddings), tmp_path, Pairs.of([], [], []), Images(folder / "images"), about=ABOUT
    )
    ds, groups = read_results(tmp_path)
    assert groups == [] and len(groups.pairs) == 0 and len(ds) == 60


def test_what_was_left_out_is_told(shop, small_ray, tmp_path):
    folder, _, embeddings, pairs = shop
    fewer = Pairs(pairs.i, pairs.j, pairs.score, 12)
    bad = pa.table({"id": ["broken.png"], "error": ["the file is empty"]})
    (tmp_path / "unreadable").mkdir()
    pq.write_table(bad, tmp_path / "unreadable/part-0.parquet")
    write_results(number_rows(embeddings), tmp_path, fewer, Images(folder / "images"), about=ABOUT)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["pairs_left_out"] == 12 and report["unreadable"] == 1
    ds, groups = read_results(tmp_path)
    assert groups.pairs.left_out == 12
    assert [(os.fspath(bad.path.relative_to(ds.root)), bad.error) for bad in ds.unreadable] == [
        ("broken.png", "the file is empty")
    ]


def test_other_folders_are_no_results(tmp_path):
    (tmp_path / "report.json").write_text('{"imgclean": "decisions"}')
    assert not is_results(tmp_path) and not is_results(tmp_path / "nothing")
    with pytest.raises(ValueError, match="holds no results"):
        read_results(tmp_path)


def test_the_same_files_come_of_the_same_pairs(shop, small_ray, tmp_path):
    folder, _, embeddings, pairs = shop
    for name in "ab":
        write_results(number_rows(embeddings), tmp_path / name, pairs, Images(folder / "images"), about=ABOUT)
    assert files(tmp_path / "a") == files(tmp_path / "b")
