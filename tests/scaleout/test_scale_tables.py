import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("ray.data", reason="Ray Data is not installed; pip install 'imgclean[ray]'")

from fakes import names, vectors, write_embeddings

from imgclean.scaleout.tables import begin, column_of, finish, matrix, number_rows


def test_numbers_are_places_among_the_sorted_ids_whatever_file_a_row_is_in(tmp_path):
    ids = ["b.png", "a/ü.png", "a/z.png", "Z.png", "a.png"]
    x = vectors(5, 4)
    numbering = number_rows(write_embeddings(tmp_path / "e", ids, x, 2))
    assert numbering.ids.to_pylist() == sorted(ids) and numbering.d == 4
    for file, numbers in numbering.parts:
        table = pq.read_table(file)
        assert [sorted(ids)[k] for k in numbers] == table["id"].to_pylist()
        assert [numbering.digests[k] for k in numbers.tolist()] == list(
            table["digest"].cast(pa.large_binary())
        )


def test_no_embeddings_and_an_id_twice_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no embeddings"):
        number_rows(tmp_path / "empty")
    with pytest.raises(ValueError, match=r"'b\.png' is twice"):
        number_rows(write_embeddings(tmp_path / "e", ["a.png", "b.png", "b.png"], vectors(3)))


def test_the_fingerprint_changes_with_images_files_and_model(tmp_path):
    x, ids = vectors(6), names(6)
    prints = [number_rows(write_embeddings(tmp_path / "a", ids, x)).fingerprint]
    (tmp_path / "a/meta.json").write_text("{}")
    prints.append(number_rows(tmp_path / "a").fingerprint)
    prints.append(number_rows(write_embeddings(tmp_path / "b", ids, x, 2)).fingerprint)
    prints.append(number_rows(write_embeddings(tmp_path / "c", ids, x + 1)).fingerprint)
    assert len(set(prints)) == 4
    assert number_rows(write_embeddings(tmp_path / "d", ids, x)).fingerprint == prints[0]


def test_a_stage_goes_on_with_its_own_settings_and_begins_anew_with_others(tmp_path):
    folder = tmp_path / "stage"
    assert begin(folder, {"k": 1}) is None
    (folder / "part").write_text("x")
    (folder / "edges").mkdir()
    (folder / "edges/.half").write_text("x")
    assert begin(folder, {"k": 1}) is None and (folder / "part").exists()
    assert finish(folder, {"n": 3}) == begin(folder, {"k": 1}) == {"n": 3}
    assert not (folder / "edges/.half").exists()
    assert begin(folder, {"k": 2}) is None and not (folder / "part").exists()


def test_a_folder_of_something_else_is_not_emptied(tmp_path):
    (tmp_path / "photo.jpg").write_text("x")
    with pytest.raises(ValueError, match="holds no results of imgclean"):
        begin(tmp_path, {})
    assert (tmp_path / "photo.jpg").exists()


def test_a_column_of_rows_is_a_matrix_also_in_part():
    x = vectors(7, 3)
    column = pa.chunked_array([column_of(x[:4]), column_of(x[4:])])
    np.testing.assert_array_equal(matrix(column.slice(2, 4)), x[2:6])
    assert matrix(column.slice(0, 0)).shape == (0, 3)
