"""The NumPy interpreter and the native program against transformers, for every architecture and file format."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from models.conftest import CASES, MIXES, Make
from models.sessions import BACKENDS, mean_kl, open_session, relative_error, top1_agreement
from models.tiny import initial_model

MAX_RELATIVE_ERROR = 1e-3
MAX_MEAN_KL = 1e-3
MIN_TOP1_AGREEMENT = 0.99


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("source", ["safetensors", "gguf"])
@pytest.mark.parametrize("case", CASES)
def test_float_logits_equal_those_of_transformers(case: str, source: str, backend: str, make_tiny: Make):
    tiny = make_tiny(case, source)
    with open_session(backend, tiny, activations="float32") as session:
        logits = session.step([(0, tiny.tokens)])
    assert relative_error(logits, tiny.logits) <= MAX_RELATIVE_ERROR


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("case", ["llama", "qwen2", "qwen3", "gemma3"])
def test_quantized_weights_give_the_logits_of_their_dequantized_selves(
    case: str, mix: str, backend: str, make_tiny: Make
):
    tiny = make_tiny(case, "gguf", mix)
    with open_session(backend, tiny, activations="float32") as session:
        logits = session.step([(0, tiny.tokens)])
    assert relative_error(logits, tiny.logits) <= MAX_RELATIVE_ERROR


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("case", ["llama", "qwen2", "qwen3", "gemma3"])
def test_16_bit_activations_are_as_good_as_floats(case: str, mix: str, backend: str, make_tiny: Make):
    tiny = make_tiny(case, "gguf", mix)
    with open_session(backend, tiny, activations="int16") as session:
        logits = session.step([(0, tiny.tokens)])
    assert 1e-6 < relative_error(logits, tiny.logits) <= MAX_RELATIVE_ERROR


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("case", ["llama", "qwen2", "qwen3", "gemma3"])
def test_int8_activations_hardly_move_the_distribution_of_a_model_that_knows_its_answer(
    case: str, mix: str, backend: str, make_tiny: Make
):
    tiny = make_tiny(case, "gguf", mix)
    with open_session(backend, tiny, activations="int8") as session:
        logits = session.step([(0, tiny.tokens)])
    assert relative_error(logits, tiny.logits) > 1e-4  # the int8 path was really taken
    assert mean_kl(logits, tiny.logits) <= MAX_MEAN_KL
    assert top1_agreement(logits, tiny.logits) >= MIN_TOP1_AGREEMENT


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("mix", ["q8_0", "q4_k_m"])
@pytest.mark.parametrize("case", ["llama", "qwen2", "qwen3", "gemma3"])
def test_int8_activations_hardly_move_the_flat_distributions_of_an_untrained_model(
    case: str, mix: str, backend: str, make_tiny: Make
):
    tiny = make_tiny(case, "gguf", mix, initial_model)
    with open_session(backend, tiny, activations="int8") as session:
        logits = session.step([(0, tiny.tokens)])
    assert mean_kl(logits, tiny.logits) <= MAX_MEAN_KL


CUTS = {"one by one": range(101), "halves": (0, 50, 100), "odd chunks": (0, 1, 18, 51, 67, 100)}


# NumPy's sums depend on the number of rows in the last bit, which rounding to integers may magnify.
@pytest.mark.parametrize(
    ("backend", "activations"), [("numpy", "float32"), ("native", "float32"), ("native", "int16"), ("native", "int8")]
)
@pytest.mark.parametrize("case", ["llama", "mistral-window", "gemma3"])
def test_chunks_and_company_do_not_change_a_logit(case: str, activations: str, backend: str, make_tiny: Make):
    tiny = make_tiny(case, "gguf", "q8_0")
    lengths = (100, 37, 64)
    prompts = [tiny.tokens[:length][::-1] for length in lengths]
    with open_session(backend, tiny, activations=activations) as session:
        whole = [session.step([(i, prompt)]) for i, prompt in enumerate(prompts)]
    for cuts in CUTS.values():
        with open_session(backend, tiny, activations=activations) as session:
            parts: list[list[np.ndarray]] = [[] for _ in prompts]
            for a, b in pairwise(cuts):
                chunks = [(i, prompt[a:b]) for i, prompt in enumerate(prompts) if a < len(prompt)]
                logits = session.step(chunks)
                starts = np.cumsum([0, *(len(chunk) for _, chunk in chunks)])
                for (i, _), start, end in zip(chunks, starts, starts[1:], strict=False):
                    parts[i].append(logits[start:end])
        for part, expected in zip(parts, whole, strict=True):
            tolerance = 1e-12 if backend == "numpy" else 0.0
            np.testing.assert_allclose(np.concatenate(part), expected, rtol=0, atol=tolerance)
