"""Faces of a type: settings that change what its attention computes, beyond those that a tiny configuration has."""

from __future__ import annotations

from typing import Any

from tests.zoo.sizes import HEADS, LAYERS, POSITIONS, WINDOW

DECODER = {"decoder": {"is_decoder": True}}
LATE_WINDOW = {
    "window in late layers": {
        "use_sliding_window": True,
        "sliding_window": WINDOW,
        "max_window_layers": LAYERS // 2,
        "layer_types": ["full_attention"] * (LAYERS // 2) + ["sliding_attention"] * (LAYERS // 2),
    }
}
WINDOW_EVERYWHERE = {"window": {"sliding_window": WINDOW}}
NO_WINDOW = {"no window": {"sliding_window": None}}
WIDE_INDEX = {"index wider than a sample": {"index_topk": POSITIONS}}
MULTIPLIED = {
    "multipliers": {
        "attention_multiplier": 0.3,
        "embedding_multiplier": 2.0,
        "residual_multiplier": 0.5,
        "logits_scaling": 2.0,
    }
}
ALL_FULL = {"full attention everywhere": {"layer_types": ["full_attention"] * LAYERS}}
CLIPPED = {"clipped": {"clip_qkv": 0.5}}
BOTH_WAYS = {"attention both ways": {"use_bidirectional_attention": True}}
SHARED_KEYS = {
    "num_kv_shared_layers": 2,
    "layer_types": ["sliding_attention", "full_attention"] * (LAYERS // 2),
}
_ROPE = {"rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 16}

FACES: dict[str, dict[str, dict[str, Any]]] = {
    **dict.fromkeys(["bert", "camembert", "data2vec-text", "electra", "ernie", "megatron-bert", "roberta"], DECODER),
    **dict.fromkeys(["roberta-prelayernorm", "roc_bert", "xlm-roberta", "xlm-roberta-xl", "xmod", "rembert"], DECODER),
    **dict.fromkeys(["big_bird", "roformer", "bert-generation"], DECODER),
    **dict.fromkeys(["qwen2", "qwen2_moe", "qwen3", "smollm3"], LATE_WINDOW),
    **dict.fromkeys(["mistral", "mixtral", "starcoder2"], WINDOW_EVERYWHERE | NO_WINDOW),
    "qwen3_moe": {"window": {"use_sliding_window": True, "sliding_window": WINDOW}},
    "ministral3": WINDOW_EVERYWHERE,
    "phi3": WINDOW_EVERYWHERE
    | {
        "long rope": {
            "rope_parameters": {"rope_type": "longrope", "rope_theta": 10000.0}
            | {"short_factor": [1.0, 1.5, 2.0, 3.0], "long_factor": [2.0, 3.0, 4.0, 6.0]},
            "original_max_position_embeddings": POSITIONS // 2,
        },
    },
    **dict.fromkeys(["deepseek_v32", "axk2", "glm_moe_dsa", "hy_v4", "dots3_note_text"], WIDE_INDEX),
    **dict.fromkeys(["granite", "granitemoe", "granitemoeshared", "hyperclovax"], MULTIPLIED),
    **dict.fromkeys(["minimax", "granitemoehybrid", "lfm2_moe", "lfm3", "qwen3_next", "qwen3_5_text"], ALL_FULL),
    **dict.fromkeys(["olmo", "olmoe"], CLIPPED),
    **dict.fromkeys(["gemma", "gemma3_text"], BOTH_WAYS),
    "gemma2": BOTH_WAYS | {"no soft cap": {"attn_logit_softcapping": None}},
    "vaultgemma": {"no soft cap": {"attn_logit_softcapping": None}},
    "gemma3n_text": {"shared keys": SHARED_KEYS},
    "gemma4_text": {
        "one head width": {"global_head_dim": 8},
        "shared keys": SHARED_KEYS | {"global_head_dim": 8},
        "values are keys": {"attention_k_eq_v": True, "global_head_dim": 8},
        "key heads by layer": {"attention_k_eq_v": True, "global_head_dim": 8, "num_global_key_value_heads": 1},
        "experts": {"enable_moe_block": True, "num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 24}
        | {"global_head_dim": 8},
    },
    "gemma4_unified_text": {
        "one head width": {"global_head_dim": 8},
        "shared keys": SHARED_KEYS | {"global_head_dim": 8},
    },
    "gpt2": {"scores scaled by layer": {"scale_attn_by_inverse_layer_idx": True, "reorder_and_upcast_attn": True}},
    "gpt_bigcode": {"a key head each": {"multi_query": False}},
    "gpt_neox": {"serial residual": {"use_parallel_residual": False}},
    "lfm2": {"with convolutions": {"layer_types": ["conv", "full_attention"] * (LAYERS // 2)}},
    "llama": {
        "rope of llama 3": {
            "rope_parameters": _ROPE | {"rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0}
        },
        "yarn": {"rope_parameters": _ROPE | {"rope_type": "yarn"}},
        "biases": {"attention_bias": True, "mlp_bias": True},
        "a key head each": {"num_key_value_heads": HEADS},
    },
    "minimax_m3_vl_text": {
        "sparse attention": {"layer_types": ["full_attention", "minimax_m3_sparse"] * (LAYERS // 2)}
        | {"index_block_size": 2, "index_topk_blocks": 2}
    },
    "cohere": {"norms of queries and keys": {"use_qk_norm": True}},
    "doge": {"experts": {"is_moe": True}, "window wider than a sample": {"keep_window_size": POSITIONS}},
    "phi": {"norms of queries and keys": {"qk_layernorm": True}},
    "persimmon": {"no norms of queries and keys": {"qk_layernorm": False}},
    "opt": {"norms behind layers": {"do_layer_norm_before": False}},
    "laguna": {"heads by layer": {"num_attention_heads_per_layer": [HEADS, 2 * HEADS] * (LAYERS // 2)}},
    "llama4_text": {
        "no temperature": {"attn_temperature_tuning": False},
        "temperature within a sample": {"floor_scale": 4},
    },
    "zaya": {"window": {"layer_types": ["hybrid", "hybrid_sliding"] * (LAYERS // 2), "sliding_window": WINDOW}},
}
"""By type, by name of a face, fields over those of the tiny configuration."""
