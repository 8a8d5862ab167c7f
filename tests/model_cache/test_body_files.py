"""Body model files: the same body from every format, and clear refusals."""

import pickle

import numpy as np
import pytest
from scipy.sparse import csc_matrix, csr_matrix

from model_cache.errors import WeightsInvalid, WeightsMissing
from model_cache.networks.smpl import BodyData
from model_cache.store.body_files import plain_array, read_body, read_joint_regressor
from model_cache.store.pickles import read_pickle
from tests.foreign_pickles import foreign_modules, foreign_object
from tests.goldens import load_golden
from tests.weight_rule import standin_posedirs


def smpl_fields() -> dict[str, np.ndarray]:
    """The stand-in body under the names of SMPL's files, as plain arrays."""
    body = load_golden("standin_smpl")
    return {
        "v_template": body["v_template"],
        "shapedirs": np.concatenate((body["shapedirs"], np.ones((6890, 3, 290), np.float32)), axis=2),
        "posedirs": standin_posedirs(),
        "J_regressor": body["J_regressor"],
        "weights": body["lbs_weights"],
        "kintree_table": np.stack((body["parents"].astype(np.uint32), np.arange(24, dtype=np.uint32))),
        "f": body["faces"].astype(np.uint32),
    }


@pytest.fixture(scope="module")
def extra(official_tiny_files):
    """HMR2's 19 extra joints."""
    return read_joint_regressor(official_tiny_files / "hmr2" / "data" / "SMPL_to_J19.pkl")


def assert_same_body(one: BodyData, other: BodyData) -> None:
    """Every array is equal to the last bit."""
    for name in BodyData.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


def test_body_is_the_same_from_every_format(official_tiny_files, official_tiny_store, tmp_path, extra):
    """Python-2 pickle with chumpy and scipy, `.npz` with 300 shapes and notes, and safetensors agree."""
    official = official_tiny_files / "hmr2" / "data" / "smpl" / "SMPL_NEUTRAL.pkl"
    for name in (b"cchumpy.ch\nCh\n", b"cscipy.sparse.csc\ncsc_matrix\n", b"cnumpy.core.multiarray\n"):
        assert name in official.read_bytes()  # the traps of the real file
    assert read_pickle(official)["kintree_table"][0, 0] == 2**32 - 1
    from_pickle = read_body(official, extra)
    np.savez(tmp_path / "smpl.npz", **smpl_fields(), notes=np.array([{"a": 1}], dtype=object))
    assert_same_body(from_pickle, read_body(tmp_path / "smpl.npz", extra))
    assert_same_body(from_pickle, read_body(official_tiny_store / "smpl.safetensors"))
    body = load_golden("standin_smpl")
    np.testing.assert_array_equal(from_pickle.joint_regressor, body["J_regressor"])
    np.testing.assert_array_equal(from_pickle.parents, body["parents"])


def test_sparse_matrices_are_written_out_as_scipy_does(tmp_path):
    """By rows or by columns, with repeated entries, the dense matrix is scipy's."""
    rng = np.random.default_rng(3)
    ends = np.array([0, 6, 6, 18, 24, 30])  # 12 in a line of 5
    parts = (rng.random(30), rng.integers(0, 5, 30), ends)
    for kind in (csc_matrix, csr_matrix):
        matrix = kind(parts, shape=(5, 5))
        path = tmp_path / "matrix.pkl"
        path.write_bytes(pickle.dumps(matrix, protocol=2))
        np.testing.assert_allclose(plain_array(read_pickle(path)), matrix.toarray())


def test_chumpy_selections_are_followed(tmp_path):
    """An array that chumpy keeps as a selection of another one comes out selected."""
    with foreign_modules("chumpy.ch", "chumpy.reordering"):
        inner = foreign_object("chumpy.ch", "Ch", x=np.arange(10.0))
        state = {"a": inner, "idxs": np.array([3, 1, 9, 0]), "preferred_shape": (2, 2)}
        selection = foreign_object("chumpy.reordering", "Select", **state)
        (tmp_path / "x.pkl").write_bytes(pickle.dumps(selection, protocol=2))
    np.testing.assert_array_equal(plain_array(read_pickle(tmp_path / "x.pkl")), [[3, 1], [9, 0]])


def test_half_precision_weights_are_made_to_sum_to_one(tmp_path, extra):
    """Rounded skinning weights would scale a body; they are normalised."""
    fields = smpl_fields()
    fields["weights"] = fields["weights"].astype(np.float16)
    np.savez(tmp_path / "body.npz", **fields)
    sums = read_body(tmp_path / "body.npz", extra).lbs_weights.sum(axis=1)
    np.testing.assert_allclose(sums, 1, atol=1e-6)


TREE = np.stack((np.arange(24), np.arange(24)))
BAD_BODIES = {
    "no-template": (lambda f: f.pop("v_template"), "`v_template` is missing"),
    "flat-template": (lambda f: f.update(v_template=np.zeros(6890, np.float32)), "`v_template` is"),
    "smplx-joints": (lambda f: f.update(J_regressor=np.zeros((55, 6890))), r"regressor` is \(55, 6890\)"),
    "smplh-pose": (lambda f: f.update(posedirs=np.zeros((6890, 3, 459), np.float32)), "`posedirs` is"),
    "few-shapes": (lambda f: f.update(shapedirs=np.zeros((6890, 3, 5))), "`shapedirs` is"),
    "smplh-tree": (lambda f: f.update(kintree_table=np.zeros((2, 52))), r"`parents` is \(52,\)"),
    "flat-tree": (lambda f: f.update(kintree_table=np.zeros(())), r"`parents` is \(1,\)"),
    "own-parents": (lambda f: f.update(kintree_table=TREE), "from the root outwards"),
    "faces": (lambda f: f.update(f=f["f"] + 1), "outside of the 6890 vertices"),
    "quads": (lambda f: f.update(f=np.zeros((10, 4), np.uint32)), "`faces` is"),
    "not-finite": (lambda f: f.update(weights=f["weights"] * np.nan), "`lbs_weights` holds numbers that"),
}


@pytest.mark.parametrize(("change", "words"), BAD_BODIES.values(), ids=BAD_BODIES)
def test_wrong_bodies_are_refused(tmp_path, extra, change, words):
    """A body that is not SMPL's, or is damaged, is refused with the field's name."""
    fields = smpl_fields()
    change(fields)
    np.savez(tmp_path / "body.npz", **fields)
    with pytest.raises(WeightsInvalid, match=f"body.npz: .*{words}"):
        read_body(tmp_path / "body.npz", extra)


def test_body_without_its_companions_says_what_is_missing(tmp_path, official_tiny_files):
    """A missing file names SMPL's address; SMPL without the extra joints asks for their file."""
    with pytest.raises(WeightsMissing, match=r"smpl\.is\.tue\.mpg\.de"):
        read_body(tmp_path / "SMPL_NEUTRAL.pkl")
    with pytest.raises(WeightsMissing, match=r"SMPL_to_J19\.pkl"):
        read_body(official_tiny_files / "hmr2" / "data" / "smpl" / "SMPL_NEUTRAL.pkl")


def matrix_with(**changes: object) -> dict[str, csc_matrix]:
    """A body with a sparse matrix of which one part does not fit the others."""
    matrix = csc_matrix(np.eye(3))
    matrix.__dict__.update(changes)
    return {"v_template": matrix}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([1, 2], "a body model is a dictionary"),
        (matrix_with(indices=np.array([0, 1, 7])), "IndexError"),
        (matrix_with(indptr=np.array([0, 1, 2, 9])), "IndexError|ValueError"),
        (matrix_with(_shape=(2**40, 2**40)), "ArrayMemoryError|ValueError"),
    ],
    ids=["list", "indices", "columns", "size"],
)
def test_damaged_pickles_of_bodies_are_refused(tmp_path, content, words):
    """A pickle that can be read but makes no arrays is refused like one that cannot be read."""
    path = tmp_path / "body.pkl"
    path.write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(WeightsInvalid, match=f"body.pkl: .*({words})"):
        read_body(path)
