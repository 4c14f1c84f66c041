"""Machine code is kept beside JAX's compiled programs, and nothing that happens to the folder breaks a run."""

import os

import jax
import pytest

from metarule.kernels.store import stored

SETTINGS = ("jax_compilation_cache_dir", "jax_enable_compilation_cache")
MEGABYTES = 2**20


@pytest.fixture(autouse=True)
def folder(tmp_path):
    before = {name: jax.config.values[name] for name in SETTINGS}
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    yield tmp_path
    for name, value in before.items():
        jax.config.update(name, value)


def never():
    raise AssertionError("it was made again")


def files(folder):
    return sorted(file for file in folder.rglob("*") if file.is_file())


def test_code_is_made_once(folder):
    assert stored("one", lambda: b"code") == b"code"
    assert stored("one", never) == b"code"
    assert stored("other", lambda: b"other code") == b"other code"
    assert len(files(folder)) == 2


@pytest.mark.parametrize("name, value", [(SETTINGS[0], None), (SETTINGS[0], "gs://bucket"), (SETTINGS[1], False)])
def test_nothing_is_stored_where_jax_stores_nothing(folder, name, value):
    jax.config.update(name, value)
    made = []
    for _ in range(2):
        assert stored("one", lambda: made.append(1) or b"code") == b"code"
    assert len(made) == 2
    assert files(folder) == []


DAMAGES = {
    "cut": lambda content: content[:-1],
    "half": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "longer": lambda content: content + b"\0",
    "another byte": lambda content: content[:-5] + bytes([content[-5] ^ 1]) + content[-4:],
    "zeros": lambda content: bytes(len(content)),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_replaced(folder, damage):
    code = bytes(range(200))
    stored("one", lambda: code)
    (file,) = files(folder)
    file.write_bytes(DAMAGES[damage](file.read_bytes()))
    assert stored("one", lambda: code) == code
    assert stored("one", never) == code


def test_the_code_used_least_recently_makes_room(folder):
    large = bytes(25 * MEGABYTES)
    for age, name in enumerate(("first", "second")):
        stored(name, lambda: large)
        for file in files(folder):
            os.utime(file, (age, age))
    os.utime(next(file for file in files(folder) if "second" in file.name), (0, 0))
    stored("first", never)  # used once more
    stored("third", lambda: large)
    assert sum(file.stat().st_size for file in files(folder)) <= 64 * MEGABYTES
    assert stored("first", never) == stored("third", never) == large
    with pytest.raises(AssertionError, match="made again"):
        stored("second", never)


def test_what_a_killed_process_left_makes_room(folder):
    stored("one", lambda: b"code")
    left = files(folder)[0].with_name("tmpabc")
    left.write_bytes(bytes(64 * MEGABYTES))
    os.utime(left, (0, 0))
    stored("other", lambda: b"other code")
    assert not left.exists()
    assert stored("one", never) == b"code"


def test_a_folder_that_cannot_be_written_is_harmless(folder):
    blocked = folder / "file"
    blocked.write_text("")
    jax.config.update(SETTINGS[0], str(blocked))
    for _ in range(2):
        assert stored("one", lambda: b"code") == b"code"
    assert blocked.read_text() == ""


def test_a_full_disk_is_harmless(monkeypatch):
    def full(*arguments, **named):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.NamedTemporaryFile", full)
    for _ in range(2):
        assert stored("one", lambda: b"code") == b"code"
