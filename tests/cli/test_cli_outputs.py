"""What commands write, and where: each file whole or not at all, and never over what they read."""

import errno
import io
import os
import sys

import pytest
import systems
from pictures import write_pictures
from typer.testing import CliRunner

from imgclean.cli import app
from imgclean.cli.common import check_writable, clear_errors, write_text

run = CliRunner()


@systems.links
@pytest.mark.parametrize(
    ("outputs", "word"),
    [
        ({"--json": "-", "--csv": "-"}, "--json and --csv are both"),
        ({"--json": "x", "--csv": "./x"}, "--json and --csv are both"),
        ({"--csv": "in.csv"}, "--csv would write over"),
        ({"--json": "link.csv"}, "--json would write over"),
        ({"--parquet": "-"}, "give --parquet a file"),
        ({"-o": "-"}, "give -o a file"),
        ({"-o": os.devnull}, "give -o a file"),
        ({"-o": "a.jpg"}, "cannot write 'a.jpg'"),
        ({"--json": "no/x"}, "in a folder that exists and may be written"),
        ({"--csv": "."}, "cannot write"),
    ],
)
def test_outputs_that_are_refused(tmp_path, monkeypatch, outputs, word):
    monkeypatch.chdir(tmp_path)
    write_pictures(tmp_path, ["a.jpg"], [1])
    (tmp_path / "in.csv").touch()
    os.symlink("in.csv", tmp_path / "link.csv")
    with pytest.raises(ValueError, match=word):
        check_writable({option: tmp_path.joinpath(f) if f == "x" else type(tmp_path)(f) for option, f in outputs.items()},
                       tmp_path / "in.csv", None)  # fmt: skip


def test_outputs_that_are_fine(tmp_path):
    (tmp_path / "old.json").touch()
    check_writable({"--json": tmp_path / "old.json", "--csv": None, "--parquet": tmp_path / "new"}, tmp_path)
    check_writable({"--json": type(tmp_path)("-"), "--csv": type(tmp_path)(os.devnull)})


def test_a_table_is_not_written_over_itself(shop, tmp_path):
    (shop / "in.csv").write_text("name\ncat/a.jpg\ncat/b.jpg\n")
    for command in (["find"], ["labels"]):
        result = run.invoke(app, [*command, str(shop / "in.csv"), "--csv", str(shop / "in.csv")])
        assert result.exit_code == 2 and "would write over" in result.stderr
    assert (shop / "in.csv").read_text().startswith("name\n")


@systems.links
def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    target = tmp_path / "x.json"
    write_text(target, "before")
    os.symlink(target, tmp_path / "link")

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError):
            write_text(target, "after")
    assert target.read_text() == "before" and sorted(os.listdir(tmp_path)) == ["link", "x.json"]
    write_text(tmp_path / "link", "a\udcff\n")
    assert target.read_bytes() == b"a\xff\n" and (tmp_path / "link").is_symlink()


def test_an_error_without_a_file_names_none(capsys):
    import typer

    with pytest.raises(typer.Exit), clear_errors():
        raise OSError(errno.ENOSPC, "No space left on device")
    assert capsys.readouterr().err == "imgclean: No space left on device\n"


def in_shell(words, encoding, monkeypatch):
    "The bytes that a shell gets on a stdout of that encoding."
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding=e, write_through=True) for e in (encoding, "utf-8"))
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        with pytest.raises(SystemExit) as end:
            app(words)
    assert end.value.code == 0 and err.buffer.getvalue() == b"", err.buffer.getvalue()
    return out.buffer.getvalue()


@systems.names_of_bytes
def test_names_that_stdout_cannot_show(tmp_path, monkeypatch):
    "As in a pipe on Windows; and names that are no UTF-8 leave it byte by byte."
    raw = os.fsdecode(b"\xff.jpg")
    write_pictures(tmp_path / "in", ["猫.jpg", raw], [1, 1])
    words = ["find", str(tmp_path / "in"), "-q", "--min-similarity", "0.9"]
    table = in_shell([*words, "--csv", "-"], "utf-8", monkeypatch)
    assert b"\xff.jpg" in table and "猫.jpg".encode() in table
    assert rb"\u732b.jpg" in in_shell(words, "ascii", monkeypatch)


@pytest.mark.parametrize(("terminal", "quiet", "known", "said"), [
    (True, False, False, True), (False, False, False, False), (True, True, False, False), (True, False, True, False)
])  # fmt: skip
def test_a_terminal_is_told_of_the_first_seconds(capsys, monkeypatch, terminal, quiet, known, said):
    from imgclean.cli.common import say_loading

    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    monkeypatch.setitem(sys.modules, "torch", sys)
    if not known:
        monkeypatch.delitem(sys.modules, "torch")
    say_loading(quiet)
    assert ("loading PyTorch" in capsys.readouterr().err) is said
