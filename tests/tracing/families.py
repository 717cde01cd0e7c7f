"""Tiny random models of the decoder families that the installed transformers has."""

from types import SimpleNamespace

import torch
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

PACKED = (
    "apertus", "arcee", "cohere2", "ernie4_5", "exaone4", "gemma3", "gemma3_text", "glm", "glm4", "gpt_neox",
    "granite", "granitemoe", "granitemoeshared", "helium", "hunyuan_v1_dense", "llama", "ministral", "ministral3",
    "mistral", "mixtral", "nemotron", "olmo", "olmo2", "olmo3", "olmoe", "opt", "phi", "phi3", "qwen2", "qwen2_moe",
    "qwen3", "qwen3_moe", "seed_oss", "smollm3", "stablelm", "starcoder2",
)  # fmt: skip
PADDED = (
    "afmoe", "aria_text", "beam", "biogpt", "bitnet", "bloom", "cohere", "cohere2_moe", "ctrl", "deepseek_v4",
    "diffllama", "doge", "ernie4_5_moe", "exaone_moe", "falcon_h1", "falcon_mamba", "flex_olmo", "flint", "fuyu",
    "gemma", "gemma2", "glm4_moe", "got_ocr2", "gpt2", "gpt_bigcode", "gpt_neox_japanese", "gpt_oss", "granite_swa",
    "granitemoe_swa", "hrm_text", "hunyuan_v1_moe", "hy_v3", "hy_v4", "hyperclovax", "inkling2_text", "inkling_text",
    "internlm3", "iquestcoder", "jais2", "jetmoe", "kolibri1", "laguna", "lfm2", "llama4_text", "mamba", "mellum",
    "mimo_v2_flash", "minimax", "minimax_m2", "minimax_m3_vl_text", "moshi", "mpt", "nanochat", "nemotron_h",
    "olmo_hybrid", "openai-gpt", "persimmon", "phimoe", "roberta", "rwkv", "solar_open", "vaultgemma", "xglm",
)  # fmt: skip
TOKENIZER = SimpleNamespace(added_tokens_decoder={}, eos_token_id=None)  # names no token that ends a text
SIZES = dict(
    vocab_size=120, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, head_dim=8, max_position_embeddings=512, bos_token_id=None, eos_token_id=None,
    pad_token_id=0, num_experts=4, num_local_experts=4, n_routed_experts=4, num_experts_per_tok=2,
    moe_intermediate_size=16, n_group=1, topk_group=1, q_lora_rank=8, kv_lora_rank=8, qk_rope_head_dim=8,
    qk_nope_head_dim=8, v_head_dim=8, sliding_window=8, mamba_d_state=8, state_size=8, is_decoder=True, expand=2,
    conv_kernel=4, d_model=32, n_layers=2, n_heads=4, ffn_dim=48, n_positions=512, shared_expert_intermediate_size=16,
    first_k_dense_replace=1,
)  # fmt: skip


def _sizes(config) -> dict:
    """Returns those of SIZES that a config has, once each: several names may stand for one number."""
    same, found = type(config).attribute_map, {}
    for name, value in SIZES.items():
        if hasattr(config, name) and same.get(name, name) not in {same.get(each, each) for each in found}:
            found[name] = value
    return found


def build(family: str, vocabulary: int = 120, **changes):
    """Returns a tiny random network of a family, in float32."""
    start = CONFIG_MAPPING[family]()
    sizes = _sizes(start)
    text = getattr(start, "text_config", None)
    if text is not None:
        sizes["text_config"] = _sizes(text) | {"vocab_size": vocabulary} | changes
    else:
        sizes |= changes
    if "vocab_size" in sizes:
        sizes["vocab_size"] = vocabulary
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = CONFIG_MAPPING[family](**sizes)
        kinds = (AutoModelForCausalLM, AutoModelForImageTextToText)
        network = next(kind for kind in kinds if type(config) in kind._model_mapping).from_config(config).eval()
    for parameter in network.parameters():
        if parameter.ndim > 1:
            parameter.data *= 3  # sharper than the usual start: what differs can be seen
    return network.requires_grad_(False)
