"""Files that appear whole or not at all; leftovers of killed processes go, what a living one holds stays."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import SafetensorError

from recsys_ae.errors import WriteError
from recsys_ae.scratch import clear, held, remove_unless_held, scratch_folder, whole_file, writing

KILLED = """
import os, signal, sys
from pathlib import Path
from recsys_ae.scratch import scratch_folder, whole_file
with whole_file(Path("a.txt")) as partial, scratch_folder("work", Path(".")) as folder:
    partial.write_text("half")
    (folder / "b.txt").write_text("half")
    if sys.argv[1:]:
        print("ready", flush=True)
        sys.stdin.read()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with whole_file(path) as partial:
        partial.write_text("one")
        assert partial.parent == tmp_path and not path.exists()
    with pytest.raises(UnicodeEncodeError), whole_file(path) as partial:
        partial.write_text("two \udc80", "utf-8")
    assert path.read_text() == "one" and names(tmp_path) == ["a.txt"]
    assert path.stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask() -> int:
    before = os.umask(0)
    os.umask(before)
    return before


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path) -> None:
    (tmp_path / ".a.txt.partial").write_text("somebody's own")
    subprocess.run([sys.executable, "-c", KILLED], cwd=tmp_path, check=False)
    assert len(names(tmp_path)) == 3
    with whole_file(tmp_path / "a.txt") as partial:
        partial.write_text("whole")
    with scratch_folder("work", tmp_path) as folder:
        assert folder.is_dir() and not list(folder.iterdir())
    assert names(tmp_path) == [".a.txt.partial", "a.txt"]


def test_what_a_living_process_holds_stays(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, "wait"], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin and child.stdout and child.stdout.readline() == "ready\n"
        before = names(tmp_path)
        clear(tmp_path)
        assert names(tmp_path) == before and len(before) == 2
        child.stdin.close()
    clear(tmp_path)
    assert names(tmp_path) == []


def test_a_folder_is_removed_unless_it_is_held(tmp_path: Path) -> None:
    folder = tmp_path / "lists"
    folder.mkdir()
    with held(folder), held(folder):
        assert not remove_unless_held(folder)
    assert remove_unless_held(folder) and not folder.exists()
    assert remove_unless_held(folder)  # is gone already


def test_a_folder_that_another_process_swept_before_it_was_opened_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    swept: list[Path] = []
    true_open = os.open

    def opened(path: Path, flags: int, mode: int = 0o777) -> int:
        if not swept:
            swept.append(Path(path))
            Path(path).rmdir()
        return true_open(path, flags, mode)

    monkeypatch.setattr(os, "open", opened)
    with scratch_folder("work", tmp_path) as folder:
        assert folder.is_dir()
        assert folder != swept[0]


def test_a_full_disk_names_the_file(tmp_path: Path) -> None:
    said = rf"b\.txt: cannot be written \(No space left on device, errno {errno.ENOSPC}\)"
    with pytest.raises(WriteError, match=said), writing(tmp_path / "b.txt"):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(WriteError, match=r"b\.txt: cannot be written"), writing(tmp_path / "b.txt"):
        raise SafetensorError("I/O error")
    with pytest.raises(FileNotFoundError, match="elsewhere"), writing(tmp_path / "b.txt"):
        (tmp_path / "elsewhere").read_text()  # names its own file
    with pytest.raises(OSError, match="Out of Memory"), writing(tmp_path / "b.txt"):
        raise OSError("Out of Memory")  # none of the system's
