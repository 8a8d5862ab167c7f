"""Foreign pickles: their data arrives, their code never runs, and damage is told in words."""

import io
import os
import pickle
import tracemalloc
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model_cache.errors import WeightsInvalid
from model_cache.store.pickles import Inert, read_checkpoint, read_npy, read_pickle
from tests.foreign_pickles import foreign_modules, foreign_object


class _Attack:
    """Calls a function when unpickled the usual way."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


@pytest.mark.parametrize("attack", ["os.system", "eval"])
@pytest.mark.parametrize("kind", ["pickle", "npy", "checkpoint", "old-checkpoint"])
def test_pickled_code_is_refused_and_does_not_run(tmp_path, attack, kind):
    """A file that would run code is named as such, in every format that can hold a pickle."""
    path, witness = tmp_path / "file", tmp_path / "ran"
    if attack == "eval":
        bomb = _Attack(eval, f"open({str(witness)!r}, 'w')")
    else:
        bomb = _Attack(os.system, f"touch {witness}")  # noqa: TID251 - the attack itself
    if kind == "pickle":
        path.write_bytes(pickle.dumps({"v_template": np.zeros(3), "more": bomb}))
        read = read_pickle
    elif kind == "npy":
        with path.open("wb") as file:
            np.save(file, np.array([bomb]), allow_pickle=True)
        read = read_npy
    else:
        content = {"state_dict": {"w": torch.zeros(2)}, "hyper_parameters": bomb}
        torch.save(content, path, _use_new_zipfile_serialization=kind == "checkpoint")
        read = read_checkpoint
    with pytest.raises(WeightsInvalid, match=r"file: it asks to run `(posix.system|builtins.eval)`"):
        read(path)
    assert not witness.exists()


def test_unknown_classes_stay_inert(tmp_path):
    """An object keeps its state and runs nothing of its own, whether its package is installed or not."""
    path = tmp_path / "file.pkl"
    with foreign_modules("chumpy.ch", "yacs.config"):
        content = {
            "ch": foreign_object("chumpy.ch", "Ch", x=np.arange(3.0), dirty=True),
            "cfg": foreign_object("yacs.config", "CfgNode", items={"A": {"B": 1}}, frozen=True),
            "path": Path("somewhere"),
        }
        path.write_bytes(pickle.dumps(content, protocol=2))
    read = read_pickle(path)
    assert isinstance(read["ch"], Inert)
    assert type(read["ch"]).class_name == "chumpy.ch.Ch"
    np.testing.assert_array_equal(read["ch"].state["x"], np.arange(3.0))
    assert isinstance(read["cfg"], Inert)
    assert isinstance(read["path"], Inert)
    assert type(read["path"]).class_name.startswith("pathlib.")


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_plain_data_arrives_whole(tmp_path, protocol):
    """Containers and arrays of every pickle protocol come out equal."""
    content = {
        "array": np.arange(6, dtype=np.uint32).reshape(2, 3),
        "scalar": np.float32(1.5),
        "list": [1, 2.5, "text", None, True, (1, 2), {3}],
        "ordered": OrderedDict(a=1),
        "bytes": b"\x00\xff",
        "bytearrays": [bytearray(b"\x00\xff"), bytearray()],
    }
    path = tmp_path / "file.pkl"
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    read = read_pickle(path)
    np.testing.assert_array_equal(read.pop("array"), content.pop("array"))
    assert read == content


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><title>Sign in</title>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
        (b"PK\x03\x04 cut", "cut short"),
        (b"\x80\x02}q\x00", "cut short"),
        (bytes(range(64, 128)), "cannot be read"),
    ],
    ids=["empty", "web-page", "lfs-pointer", "cut-zip", "cut-pickle", "noise"],
)
@pytest.mark.parametrize("read", [read_pickle, read_npy, read_checkpoint])
def test_files_that_are_no_weights_are_told_in_words(tmp_path, content, words, read):
    """The message says what the file looks like, so that the operator knows what to do."""
    path = tmp_path / "weights.bin"
    path.write_bytes(content)
    with pytest.raises(WeightsInvalid, match=f"weights.bin: .*{words}"):
        read(path)


def test_torchscript_is_refused(tmp_path):
    """A program is no checkpoint, whatever weights it holds."""
    path = tmp_path / "program.pt"
    torch.save({"w": torch.zeros(1)}, path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("archive/constants.pkl", b"\x80\x02).")
    with pytest.raises(WeightsInvalid, match="TorchScript"):
        read_checkpoint(path)


MAX_PEAK_BYTES = 2**20  # for files of a few hundred bytes


def read_or_refused(path: Path, content: bytes, read: Callable[[Path], object]) -> str:
    """The refusal, if any; fails if another error comes out, or if reading takes much memory."""
    path.write_bytes(content)
    tracemalloc.start()
    try:
        read(path)
        refusal = ""
    except WeightsInvalid as error:
        refusal = str(error)
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < MAX_PEAK_BYTES
    return refusal


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02]r\xff\xff\xff\x0f.",
        b"\x80\x02X\xff\xff\xff\x7fabc.",
        b"\x80\x05\x96\xff\xff\xff\x0f\x00\x00\x00\x00abc.",
        b"\x80\x02cbuiltins\nbytes\n(I200000000\ntR.",
        b"\x80\x02cbuiltins\nbytearray\n(I200000000\ntR.",
        b"\x80\x02cbuiltins\nlist\n(cbuiltins\nrange\n(I20000000\ntRtR.",
    ],
    ids=["memo", "text", "bytearray8", "bytes", "bytearray", "range"],
)
def test_numbers_in_a_pickle_take_no_memory(tmp_path, content):
    """A few bytes that ask for gigabytes get none."""
    read_or_refused(tmp_path / "file.pkl", content, read_pickle)


SET_DEFAULTS = b"N}X\x0c\x00\x00\x00__defaults__X\x04\x00\x00\x00utf8\x85s\x86"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x80\x02c_codecs\nencode\n" + SET_DEFAULTS + b"b.", "a state for a class or a function"),
        (pickle.dumps(np.arange(4), protocol=2).replace(b"i8", b"O8"), "does not fill its shape"),
        (pickle.dumps(np.array([None, 1]), 2).replace(b"K\x02\x85", b"K\x09\x85"), "not fill its shape"),
    ],
    ids=["settings of a function", "bytes as pointers to objects", "nine objects of two"],
)
def test_attacks_on_the_reader_itself_are_refused(tmp_path, content, words):
    """What a pickle may call keeps its settings for those that follow; only real objects become objects."""
    assert words in read_or_refused(tmp_path / "file.pkl", content, read_pickle)


OBJECTS_NPY = io.BytesIO()
np.save(OBJECTS_NPY, np.array([{"a": 1}, [1.5, "x"]], dtype=object), allow_pickle=True)
DAMAGEABLE = {
    "protocol-2": (pickle.dumps({"a": np.arange(4), "b": [1, "x"]}, protocol=2), read_pickle),
    "protocol-5": (pickle.dumps({"a": np.arange(4), "b": [1, bytearray(b"x")]}, protocol=5), read_pickle),
    "npy": (OBJECTS_NPY.getvalue(), read_npy),
}


@pytest.mark.parametrize(("good", "read"), DAMAGEABLE.values(), ids=DAMAGEABLE)
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_damaged_pickles_never_fail_otherwise(tmp_path_factory, good, read, data):
    """Whatever bytes change, a pickle is read or refused; no other error comes out, no memory is taken."""
    content = bytearray(good)
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    read_or_refused(tmp_path_factory.getbasetemp() / "damaged", bytes(content), read)
