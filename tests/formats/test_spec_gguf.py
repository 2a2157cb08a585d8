from __future__ import annotations

import math
from pathlib import Path

import pytest

from formats.tiny_gguf import ARRAY, BOOL, F32, STRING, U32, U64, Array, TinyGguf, llama_file
from miaotui.errors import ModelFileError, UnsupportedModelError
from miaotui.formats import open_model
from miaotui.formats.spec import ModelSpec, RopeScaling


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def spec_of(file: TinyGguf, folder: Path) -> ModelSpec:
    path = folder / "tiny.gguf"
    path.write_bytes(file.build())
    return open_model(path).spec


def gemma_file() -> TinyGguf:
    return llama_file("gemma3").add("gemma3.attention.sliding_window", U32, 16).replace("gemma3.block_count", U32, 8)


def test_llama_fields_and_defaults(folder: Path) -> None:
    spec = spec_of(llama_file(), folder)
    assert spec == ModelSpec(
        architecture="llama", name="tiny", source="gguf", vocab_size=8, hidden_size=32, intermediate_size=64,
        num_layers=1, num_heads=4, num_kv_heads=2, head_dim=8, context_length=128, norm_eps=spec.norm_eps,
        activation="silu", rope_dim=8, rope_theta=10_000.0, rope_local_theta=None, rope_scaling=RopeScaling(),
        rope_pairing="interleaved", attention_scale=1 / math.sqrt(8), attention_bias=False, sliding_window=None,
        sliding_layers=(False,), attention_softcap=None, final_softcap=None, tie_embeddings=True, embedding_scale=1.0,
    )  # fmt: skip
    assert spec.norm_eps == pytest.approx(1e-5)


@pytest.mark.parametrize("arch", ["qwen2", "qwen3", "gemma3"])
def test_only_llama_files_pair_neighbours(arch: str, folder: Path) -> None:
    assert spec_of(llama_file(arch), folder).rope_pairing == "neox"


def test_kv_heads_default_to_all_heads(folder: Path) -> None:
    file = llama_file()
    file.metadata = [entry for entry in file.metadata if entry[0] != "llama.attention.head_count_kv"]
    assert spec_of(file, folder).num_kv_heads == 4


def test_head_and_rope_sizes_come_from_the_file(folder: Path) -> None:
    file = llama_file("qwen3").add("qwen3.attention.key_length", U32, 16).add("qwen3.attention.value_length", U32, 16)
    spec = spec_of(file.add("qwen3.rope.freq_base", F32, 1e6), folder)
    assert (spec.head_dim, spec.rope_dim, spec.rope_theta, spec.attention_scale) == (16, 16, 1e6, 0.25)
    assert spec_of(file.add("qwen3.rope.dimension_count", U64, 8), folder).rope_dim == 8


def test_biases_and_tied_embeddings_show_in_the_tensors(folder: Path) -> None:
    file = llama_file("qwen2").tensor("blk.0.attn_q.bias", (32,)).tensor("output.weight", (8, 32))
    spec = spec_of(file, folder)
    assert (spec.attention_bias, spec.tie_embeddings) == (True, False)


def test_gemma3_is_told_apart_by_what_gguf_leaves_out(folder: Path) -> None:
    spec = spec_of(gemma_file().add("gemma3.final_logit_softcapping", F32, 30.0), folder)
    assert spec.sliding_layers == (True,) * 5 + (False,) + (True,) * 2
    assert (spec.sliding_window, spec.rope_local_theta, spec.final_softcap) == (16, 10_000.0, 30.0)
    assert (spec.activation, spec.norm_offset, spec.embedding_scale) == ("gelu_tanh", 0.0, math.sqrt(32))
    assert spec.attention_scale == pytest.approx(8**-0.5)
    assert spec_of(gemma_file().add("gemma3.final_logit_softcapping", F32, 0.0), folder).final_softcap is None


def test_gemma3_27b_scales_attention_by_its_hidden_size(folder: Path) -> None:
    file = gemma_file().replace("gemma3.block_count", U32, 62).add("gemma3.attention.key_length", U32, 16)
    spec = spec_of(file.add("gemma3.attention.value_length", U32, 16), folder)
    assert spec.attention_scale == pytest.approx((32 / 4) ** -0.5)


def test_a_sliding_pattern_in_the_file_wins(folder: Path) -> None:
    key = "gemma3.attention.sliding_window_pattern"
    flags = [True, False] * 4
    assert spec_of(gemma_file().add(key, ARRAY, Array(BOOL, list(flags))), folder).sliding_layers == tuple(flags)
    assert spec_of(gemma_file().add(key, U32, 4), folder).sliding_layers == (True, True, True, False) * 2
    with pytest.raises(ModelFileError, match="7 layer types are given for 8 layers"):
        spec_of(gemma_file().add(key, ARRAY, Array(BOOL, [True] * 7)), folder)


def test_a_window_makes_every_llama_layer_slide(folder: Path) -> None:
    spec = spec_of(llama_file().add("llama.attention.sliding_window", U32, 64), folder)
    assert (spec.sliding_window, spec.sliding_layers) == (64, (True,))


def test_equal_entries_of_a_per_layer_array_count_as_one_number(folder: Path) -> None:
    same = llama_file().replace("llama.feed_forward_length", ARRAY, Array(U32, [64, 64]))
    assert spec_of(same, folder).intermediate_size == 64
    with pytest.raises(ModelFileError, match=r"'llama.feed_forward_length' must be one integer"):
        spec_of(llama_file().replace("llama.feed_forward_length", ARRAY, Array(U32, [64, 65])), folder)


def test_rope_scaling_kinds(folder: Path) -> None:
    def scaled(**values: tuple[int, object]) -> RopeScaling:
        file = llama_file()
        for key, (kind, value) in values.items():
            file.add(f"llama.rope.{key.replace('__', '.')}", kind, value)
        return spec_of(file, folder).rope_scaling

    factor = {"scaling__factor": (F32, 4.0)}
    assert scaled(**factor) == RopeScaling(kind="linear", factor=4.0)
    assert scaled(scale_linear=(F32, 2.0)) == RopeScaling(kind="linear", factor=2.0)
    assert scaled(scaling__factor=(F32, 0.0)) == RopeScaling()
    assert scaled(scaling__type=(STRING, "none"), **factor) == RopeScaling()
    yarn = {"scaling__type": (STRING, "yarn"), "scaling__original_context_length": (U32, 64), **factor}
    assert scaled(**yarn) == RopeScaling(kind="yarn", factor=4.0, original_context=64)
    stronger = scaled(scaling__attn_factor=(F32, 2.0), **yarn)
    assert stronger.attention_factor == pytest.approx(2 * (0.1 * math.log(4) + 1))
    unstretched = yarn | {"scaling__factor": (F32, 1.0), "scaling__attn_factor": (F32, 2.0)}
    assert scaled(**unstretched).attention_factor == 2.0
    for kind in ("none", "linear"):
        with pytest.raises(
            UnsupportedModelError, match=r"'llama.rope.scaling.attn_factor' is supported with yarn only"
        ):
            scaled(scaling__type=(STRING, kind), scaling__attn_factor=(F32, 2.0), **factor)
    with pytest.raises(UnsupportedModelError, match="rope scaling 'longrope' is not supported"):
        scaled(scaling__type=(STRING, "longrope"), **factor)


def test_llama3_frequency_factors_are_found_by_their_tensor(folder: Path) -> None:
    spec = spec_of(llama_file().tensor("rope_freqs.weight", (4,)), folder)
    assert spec.rope_scaling == RopeScaling(freq_factors_tensor="rope_freqs.weight")
    file = llama_file().tensor("rope_freqs.weight", (4,)).add("llama.rope.scaling.factor", F32, 4.0)
    both = RopeScaling(kind="linear", factor=4.0, freq_factors_tensor="rope_freqs.weight")
    assert spec_of(file, folder).rope_scaling == both


@pytest.mark.parametrize("arch", ["qwen2", "qwen3", "gemma3"])
def test_frequency_factors_of_architectures_that_have_none_are_refused(arch: str, folder: Path) -> None:
    with pytest.raises(UnsupportedModelError, match=r"tiny.gguf: 'rope_freqs.weight' is supported for llama only"):
        spec_of(llama_file(arch).tensor("rope_freqs.weight", (4,)), folder)


def test_an_unsupported_architecture_is_named_beside_the_supported(folder: Path) -> None:
    with pytest.raises(
        UnsupportedModelError, match=r"'mamba' is not supported .supported: llama, qwen2, qwen3, gemma3"
    ):
        spec_of(llama_file("mamba"), folder)


@pytest.mark.parametrize("key", ["expert_count", "attention.value_length"])
def test_unsupported_variants_are_named(key: str, folder: Path) -> None:
    with pytest.raises(UnsupportedModelError, match=r"tiny.gguf: .*(experts|value heads)"):
        spec_of(llama_file().add(f"llama.{key}", U32, 4), folder)


REQUIRED = ["context_length", "embedding_length", "block_count", "feed_forward_length", "attention.head_count",
            "attention.layer_norm_rms_epsilon"]  # fmt: skip


@pytest.mark.parametrize("key", ["general.architecture", *[f"llama.{key}" for key in REQUIRED]])
def test_a_missing_key_is_named(key: str, folder: Path) -> None:
    file = llama_file()
    file.metadata = [entry for entry in file.metadata if entry[0] != key]
    with pytest.raises(ModelFileError, match=f"tiny.gguf: the key '{key}' is missing"):
        spec_of(file, folder)


@pytest.mark.parametrize("key", REQUIRED[:5])
@pytest.mark.parametrize(
    ("kind", "value"), [(STRING, "32"), (F32, 32.0), (BOOL, True), (U32, 0), (U32, 2**32 - 1), (U64, 2**64 - 1)]
)
def test_a_size_of_the_wrong_type_or_range_is_refused(key: str, kind: int, value: object, folder: Path) -> None:
    with pytest.raises(ModelFileError, match=r"tiny.gguf: "):
        spec_of(llama_file().replace(f"llama.{key}", kind, value), folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0, 2.0])
def test_an_epsilon_out_of_range_is_refused(value: float, folder: Path) -> None:
    with pytest.raises(ModelFileError, match=r"epsilon|norm_eps"):
        spec_of(llama_file().replace("llama.attention.layer_norm_rms_epsilon", F32, value), folder)


def test_a_file_without_embedding_is_refused(folder: Path) -> None:
    file = llama_file()
    del file.tensors[0]
    with pytest.raises(ModelFileError, match=r"'token_embd.weight' is missing"):
        spec_of(file, folder)
