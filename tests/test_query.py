import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pictures import picture, write_pictures
from PIL import Image
from typer.testing import CliRunner

from imgclean import query
from imgclean.cli import app
from imgclean.dataset.images import UnreadableImage
from imgclean.dataset.items import Items
from imgclean.features.activations import embed
from imgclean.features.backbones import default_learner
from imgclean.features.pooling import GeM
from imgclean.find.lsh import LSHIndex
from imgclean.query import Index, Similar, build_index, find_similar

run = CliRunner()


NAMES = [
    "cat/a.jpg",
    "cat/b.jpg",
    "cat/c.jpg",
    "cat/d.jpg",
    "dog/a.jpg",
    "dog/b.jpg",
    "dog/c.jpg",
    "dog/d.jpg",
]


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    "Eight pictures in two classes, one of them three times, one twice, and a broken file. Nobody may change them."
    folder = tmp_path_factory.mktemp("once") / "shop"
    write_pictures(folder, NAMES, [1, 2, 1, 3, 1, 4, 5, 4])
    (folder / "dog/broken.jpg").write_text("no image")
    return folder


@pytest.fixture(scope="module")
def small(shop):
    "A Learner in no time, of random weights: copies are copies to it, too."
    return default_learner(shop, "mobilenetv3_small_050", pretrained=False, size=64)


@pytest.fixture(scope="module")
def once(shop, small):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(query, "default_learner", lambda source, arch: small)
        index = build_index(shop, shop.parent / "shop.idx", progress=False)
    return index, shop.parent


@pytest.fixture
def small_learner(small, monkeypatch):
    monkeypatch.setattr(query, "default_learner", lambda source, arch: small)


@pytest.fixture
def indexed(once, small_learner):
    return replace(once[0], settings=dict(once[0].settings)), once[1] / "shop.idx"


@pytest.fixture
def copied(once, small_learner, tmp_path):
    "A folder that may be changed, and the index of it as it is."
    shutil.copytree(once[1] / "shop", tmp_path / "shop")
    shutil.copyfile(once[1] / "shop.idx", tmp_path / "shop.idx")
    return tmp_path / "shop", tmp_path / "shop.idx"


@pytest.fixture
def looked_at(monkeypatch):
    "The names of the images that were looked at."
    names = []

    def counted(learn, items, *args, **kwargs):
        names.extend(items.relpath(k) for k in range(len(items)))
        return embed(learn, items, *args, **kwargs)

    monkeypatch.setattr(query, "embed", counted)
    return names


def names(found, root):
    return [path.relative_to(root).as_posix() for path, _ in found]


def test_the_most_similar_images_are_those_of_brute_force(indexed, shop):
    index, _ = indexed
    assert list(index.names) == NAMES
    found = find_similar(shop / "dog/b.jpg", index, 8)
    items = Items.from_folder(shop)
    vectors = embed(index._learn, items, progress=False).vectors.astype(np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose([s for _, s in found], np.sort(vectors @ vectors[5])[::-1], atol=1e-4)
    assert set(names(found[:2], shop)) == {"dog/b.jpg", "dog/d.jpg"} and found[1].similarity == pytest.approx(
        1, abs=1e-5
    )


def test_a_file_a_name_and_a_picture_find_the_same(indexed, shop, tmp_path):
    index, file = indexed
    picture(3).save(tmp_path / "new.png")
    by = [
        find_similar(tmp_path / "new.png", index, 3),
        find_similar(str(tmp_path / "new.png"), index, 3),
        find_similar(picture(3), str(file), 3),
    ]
    assert list(by[0]) == list(by[1]) == list(by[2])
    by.append(find_similar(picture(3).convert("CMYK"), index, 3))
    for found in by:
        assert names(found, shop)[0] == "cat/d.jpg" and len(found) == 3
        assert [s for _, s in found] == sorted((s for _, s in found), reverse=True)


def test_a_url_is_fetched_and_nothing_private_unless_allowed(indexed, shop, monkeypatch):
    from dataset.test_fetch import serving

    index, _ = indexed
    with serving() as port:
        found = find_similar(f"http://127.0.0.1:{port}/x.png", index, 1, allow_private=True)
        with pytest.raises(OSError, match="no public address"):
            find_similar(f"http://127.0.0.1:{port}/x.png", index, 1)
    assert names(found, shop) == ["cat/d.jpg"]  # the site's picture 3
    with pytest.raises(OSError, match="is not fetched"):
        find_similar("file:///etc/passwd", index)


def test_adding_images_does_not_look_at_the_old_ones_again(once, copied, looked_at):
    (shop, file), old = copied, once[0]
    write_pictures(shop, ["eel/new.jpg", "cat/b.jpg"], [9, 10])  # one new, one changed
    (shop / "dog/c.jpg").unlink()
    (shop / "cat/c.jpg").touch()  # not changed by that
    index = build_index(shop, file, progress=False, cache=False)
    assert sorted(looked_at) == [
        "cat/a.jpg",
        "cat/b.jpg",
        "dog/broken.jpg",
        "eel/new.jpg",
    ]  # one old one as a probe
    assert "dog/c.jpg" not in index.names and "eel/new.jpg" in index.names and len(index) == 8
    again = Index.load(file)
    np.testing.assert_array_equal(again.vectors, index.vectors)
    fresh = build_index(shop, progress=False)
    assert fresh.names == index.names
    np.testing.assert_allclose(fresh.vectors, index.vectors, atol=1e-5)
    np.testing.assert_array_equal(index.vectors[0], old.vectors[0])
    looked_at.clear()
    build_index(shop, file, progress=False, cache=False)
    assert sorted(looked_at) == ["cat/a.jpg", "dog/broken.jpg"]


def test_vectors_are_not_taken_over_where_nothing_tells_what_made_them(copied, looked_at, monkeypatch):
    shop, file = copied
    blind = query.embed
    monkeypatch.setattr(query, "embed", lambda *a, **k: blind(*a, **k)._replace(fingerprint=None))
    build_index(shop, file, progress=False)
    assert set(NAMES) <= set(looked_at)


def test_save_and_load_give_the_same_index(indexed, tmp_path):
    index, file = indexed
    again = Index.load(file)
    assert again.names == index.names and again.settings == index.settings and again.files == index.files
    assert Path(again.root) == Path(index.root) and repr(again) == repr(index)
    np.testing.assert_array_equal(again.vectors, index.vectors)
    moved = Index.load(file, root=tmp_path / "elsewhere")
    assert find_similar(picture(1), moved, 1)[0].path.is_relative_to(tmp_path / "elsewhere")


def test_search_by_lsh_finds_the_copies_and_survives_the_file(copied, once):
    shop, file = copied
    index = build_index(shop, file, lsh=LSHIndex(6, 4), progress=False)
    again = Index.load(file)
    assert again.lsh.settings == index.lsh.settings and again.lsh.vectors is again.vectors
    for one in (index, again):
        found, score = one.search(once[0].vectors[0], 3)
        assert sorted(one.names[k] for k in found) == ["cat/a.jpg", "cat/c.jpg", "dog/a.jpg"]
        assert score == pytest.approx(1, abs=1e-5) and len(one.search(once[0].vectors[0], 100)[0]) == 8
    write_pictures(shop, ["new.jpg"], [9])
    more = build_index(shop, file, progress=False)
    assert len(more.lsh) == 9 and more.lsh.n_bits == 6


def test_an_index_by_a_learner_of_ones_own_needs_it_again(shop, tmp_path):
    learn, other = (
        default_learner(shop, "mobilenetv3_small_050", pretrained=False, size=64) for _ in range(2)
    )
    index = build_index(learn, tmp_path / "i", pool=GeM, progress=False)
    assert index.settings["pool"] == "GeM" and index.settings["learner"] == "own"
    assert names(find_similar(picture(2), index, 1), shop) == ["cat/b.jpg"]
    with pytest.raises(ValueError, match=r"made with a Learner of your own .*give it as learn="):
        find_similar(picture(2), tmp_path / "i")
    assert names(find_similar(picture(2), tmp_path / "i", 1, learn=learn), shop) == ["cat/b.jpg"]
    with pytest.raises(ValueError, match="fingerprint"):
        find_similar(picture(2), tmp_path / "i", learn=other)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"layer": "0.model.blocks.2"}, "made with layer .* now it is '0.model.blocks.2'"),
        ({"pool": GeM}, "made with pool 'AdaptiveConcatPool2d', now it is 'GeM'"),
        ({"pool_dim": 2}, "made with pool_dim 1, now it is 2"),
    ],
)
def test_an_index_by_another_layer_or_pooling_is_not_mixed_with_this(indexed, shop, args, message):
    _, file = indexed
    before = file.read_bytes()
    with pytest.raises(ValueError, match=message):
        build_index(shop, file, progress=False, **args)
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("key", "value"),
    [("fingerprint", "00ff"), ("torch", "1.0"), ("arch", "resnet18")],
)
def test_an_index_by_something_else_is_refused(indexed, key, value):
    index, _ = indexed
    index.settings[key] = value
    with pytest.raises(ValueError, match=f"made with {key}"):
        find_similar(picture(1), index)


def test_wrong_input_is_refused(indexed, shop, tmp_path):
    index, file = indexed
    d = index.vectors.shape[1]
    (tmp_path / "text").write_text("no index")
    empty = Index(np.empty((0, d), np.float32), (), shop, [], index.settings)
    for work, error, message in (
        (lambda: find_similar(picture(1), index, 0), ValueError, "n is 0"),
        (lambda: index.search(np.ones(d), 0), ValueError, "n is 0"),
        (lambda: index.search(np.ones(3)), ValueError, r"shape \(3,\), the index holds vectors of"),
        (lambda: index.search(np.zeros(d)), ValueError, "all zeros"),
        (lambda: index.search(np.full(d, np.nan)), ValueError, "NaN or infinity"),
        (lambda: find_similar(picture(1), empty), ValueError, "the index is empty"),
        (lambda: find_similar(3, index), TypeError, "got a int; give a file, a URL or a PIL image"),
        (
            lambda: find_similar(shop / "nowhere.jpg", index),
            UnreadableImage,
            r"nowhere\.jpg' cannot be looked for: the file does not exist",
        ),
        (lambda: find_similar(shop / "dog/broken.jpg", index), UnreadableImage, "not an image"),
        (lambda: find_similar(picture(1), tmp_path / "text"), ValueError, "is no image index of imgclean"),
        (lambda: find_similar(picture(1), tmp_path / "nowhere"), FileNotFoundError, "nowhere"),
        (lambda: build_index(shop, tmp_path / "text"), ValueError, "is no image index of imgclean"),
        (lambda: build_index(shop, pool=lambda n: None), ValueError, "AdaptiveConcatPool2d, GeM or None"),
        (lambda: build_index(index._learn, arch="resnet18"), ValueError, "brings its own model"),
        (lambda: build_index(shop, lsh=index_of_ones()), ValueError, "empty LSHIndex"),
    ):
        with pytest.raises(error, match=message):
            work()
    assert (tmp_path / "text").read_text() == "no index"
    (tmp_path / "cut").write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(ValueError, match="is damaged"):
        Index.load(tmp_path / "cut")


def index_of_ones():
    index = LSHIndex()
    index.add(np.ones((1, 3)))
    return index


def test_more_than_there_are_is_all_there_is(indexed):
    assert len(find_similar(picture(1), indexed[0], 100)) == 8


def test_the_picture_shows_query_and_found_also_where_one_is_gone(indexed, shop, tmp_path):
    index, _ = indexed
    found = find_similar(
        picture(1, (900, 700)), replace(index, root=tmp_path, names=("gone.jpg", *NAMES[1:])), 7
    )
    found[1:] = [Similar(shop / path.relative_to(tmp_path), s) for path, s in found[1:]]
    fig = found.plot()
    titles = [ax.get_title() for ax in fig.axes if ax.get_title()]
    assert titles[0] == "query" and len(titles) == 8 and titles[1].startswith(f"{found[0].similarity:.3f}\n")
    assert "the file does not exist" in [t.get_text() for ax in fig.axes for t in ax.texts]
    assert found._repr_png_().startswith(b"\x89PNG") and max(found.query.size) <= 512


def test_the_shell_makes_an_index_and_searches_it(shop, tmp_path):
    file, grid = tmp_path / "shop.idx", tmp_path / "grid.png"
    made = run.invoke(app, ["index", str(shop), "-o", str(file), "--lsh"])
    assert made.exit_code == 0 and made.stdout == "" and f"8 images in {file}" in made.stderr
    args = ["similar", str(shop / "dog/d.jpg"), "--index", str(file), "-n", "2"]
    lines = run.invoke(
        app, [*args, "--save", str(grid), "--json", str(tmp_path / "found.json")]
    ).stdout.splitlines()
    assert sorted(line.split("  ")[1] for line in lines) == ["dog/b.jpg", "dog/d.jpg"]
    assert lines[0].startswith("1.0000") and Image.open(grid).width > 300
    found = json.loads(run.invoke(app, [*args, "--json", "-"]).stdout)
    assert list(found) == ["version", "query", "root", "settings", "images", "similar"]
    assert found["images"] == 8 and found["settings"]["arch"] == "tf_efficientnet_lite0"
    assert [s["similarity"] for s in found["similar"]] == [pytest.approx(1, abs=1e-5)] * 2
    assert json.loads((tmp_path / "found.json").read_text()) == found


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["-n", "0"], "n is 0"),
        (["--index", "nowhere.idx"], "nowhere.idx"),
        (["--save", "no/such/folder.png"], "give --save a file"),
        (["--json", "no/such/folder.json"], "give --json a file"),
    ],
)
def test_the_shell_says_what_is_wrong(indexed, shop, more, message):
    result = run.invoke(app, ["similar", str(shop / "cat/a.jpg"), "--index", str(indexed[1]), *more])
    assert result.exit_code == 2 and message in result.stderr and len(result.stderr.splitlines()) == 1


def test_the_shell_says_how_an_index_is_made(shop):
    result = run.invoke(app, ["similar", str(shop / "cat/a.jpg")])
    assert result.exit_code == 2 and "imgclean index FOLDER -o FILE" in result.stderr


def test_the_shell_fetches_nothing_private(indexed):
    result = run.invoke(app, ["similar", "http://127.0.0.1:9/a.png", "--index", str(indexed[1])])
    assert result.exit_code == 2 and "--allow-private" in result.stderr
