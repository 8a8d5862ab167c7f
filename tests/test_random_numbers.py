"""Every test draws the same numbers in every run, and test weights are those of the goldens."""

import ast
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.goldens import load_golden
from tests.weight_rule import weight

KEYS = load_golden("state_dict_keys.json")
TESTS = Path(__file__).parent
UNREPEATABLE = {"SystemRandom", "urandom", "uuid1", "uuid4", "token_bytes", "token_hex", "randbits"}
NEED_A_SEED = {"default_rng", "Random", "PCG64", "SeedSequence"}
NEED_A_GENERATOR = {"rand", "randn", "randint", "randperm", "rand_like", "randn_like", "normal", "bernoulli"}


def unseeded(source: str) -> Iterator[str]:
    """The calls in a source text whose numbers a seed of its own does not fix."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        kind = name.rpartition(".")[2]
        of_torch = name.startswith("torch.") and kind in NEED_A_GENERATOR
        if (
            kind in UNREPEATABLE
            or (kind in NEED_A_SEED and not node.args and not node.keywords)
            or (of_torch and "generator" not in {keyword.arg for keyword in node.keywords})
        ):
            yield f"line {node.lineno}: {name}"


def test_generators_are_seeded() -> None:
    """Whoever wants random numbers says which."""
    assert {
        f"{path.relative_to(TESTS)}, {found}"
        for path in TESTS.rglob("*.py")
        if any(word in (text := path.read_text()) for word in UNREPEATABLE | NEED_A_SEED | {"torch."})
        for found in unseeded(text)
    } == set()


@pytest.mark.parametrize(
    ("call", "is_fine"),
    [
        ("np.random.default_rng(0)", True),
        ("np.random.default_rng()", False),
        ("torch.rand(2, 4, generator=torch.Generator().manual_seed(0))", True),
        ("torch.rand(2, 4)", False),
        ("random.Random(seed)", True),
        ("random.Random()", False),
        ("uuid.uuid4()", False),
        ("rng.normal(0, 1)", True),
    ],
)
def test_a_call_without_a_seed_is_found(call: str, is_fine: bool) -> None:
    """So that the test above finds anything at all."""
    assert (list(unseeded(call)) == []) == is_fine


@pytest.mark.parametrize("run", range(2))
def test_global_generators_start_anew_in_every_test(run: int) -> None:
    """The same numbers whatever ran before: those of seed 0."""
    drawn = random.random(), np.random.random(), torch.rand(1, generator=torch.default_generator).item()

    assert drawn == (
        random.Random(0).random(),
        np.random.RandomState(0).random(),
        torch.rand(1, generator=torch.Generator().manual_seed(0)).item(),
    )


@pytest.mark.parametrize("key", KEYS["rule_checksums"])
def test_weight_rule_gives_the_stated_tensors(key):
    """First values to the last bit, sum and deviation as the goldens list them."""
    listed = KEYS["hmr2_full"] | KEYS["hmar_used"] | KEYS["pose_predictor"]["lart256"]
    tensor, expected = weight(key, tuple(listed[key]["shape"])), KEYS["rule_checksums"][key]
    np.testing.assert_array_equal(tensor.ravel()[:4], np.float32(expected["first"]))
    assert tensor.astype(np.float64).sum() == pytest.approx(expected["sum64"], rel=1e-9)
    assert tensor.std() == pytest.approx(expected["std"], rel=1e-6)  # summed in float32
