"""Tiny configurations: of every type the same shape, so far as the type has it.

Sizes are told by the names of fields. A list with one entry a layer keeps each of its different entries, so that a type
with several kinds of layers has them all in a few layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers import CONFIG_MAPPING, PretrainedConfig

from tests.sequence.tiny import VOCABULARY

LAYERS = 4
HEADS = 4
WIDTH = 32
HEAD_DIM = 8
POSITIONS = 64
WINDOW = 5
"""Keys that are seen where a type has a window, an index, chunks or blocks: fewer than the tokens of a sample."""

SIZES: dict[str, Any] = {
    **dict.fromkeys(["vocab_size", "decoder_vocab_size", "vocab_size_per_layer_input"], len(VOCABULARY)),
    **dict.fromkeys(["pad_token_id", "eos_token_id", "bos_token_id", "sep_token_id", "decoder_start_token_id"], 3),
    "pad_token_id": 1,
    "bos_token_id": 2,
    **dict.fromkeys(["hidden_size", "d_model", "n_embd", "emb_dim", "embedding_size", "word_embed_proj_dim"], WIDTH),
    **dict.fromkeys(["num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers"], LAYERS),
    **dict.fromkeys(["encoder_layers", "num_encoder_layers"], LAYERS),
    **dict.fromkeys(["num_decoder_layers"], LAYERS),
    **dict.fromkeys(["num_attention_heads", "n_head", "n_heads", "num_heads", "decoder_attention_heads"], HEADS),
    **dict.fromkeys(["encoder_attention_heads", "num_encoder_attention_heads", "num_decoder_attention_heads"], HEADS),
    **dict.fromkeys(["attention_heads", "swa_num_attention_heads"], HEADS),
    **dict.fromkeys(["num_key_value_heads", "swa_num_key_value_heads", "num_kv_heads", "num_query_groups"], 2),
    **dict.fromkeys(["head_dim", "swa_head_dim", "attention_head_dim", "kv_channels", "dim_head", "d_head"], HEAD_DIM),
    **dict.fromkeys(["v_head_dim", "qk_nope_head_dim", "index_head_dim", "rotary_dim", "indexer_head_dim"], HEAD_DIM),
    **dict.fromkeys(["qk_rope_head_dim"], 4),
    **dict.fromkeys(["qk_head_dim"], 4 + HEAD_DIM),
    **dict.fromkeys(["kv_lora_rank", "q_lora_rank", "o_lora_rank", "adapter_rank", "laurel_rank"], 16),
    **dict.fromkeys(["intermediate_size", "ffn_dim", "decoder_ffn_dim", "encoder_ffn_dim", "n_inner", "dff"], 48),
    **dict.fromkeys(["moe_intermediate_size", "shared_expert_intermediate_size", "shared_intermediate_size"], 24),
    **dict.fromkeys(["shared_experts_intermediate_size", "dense_intermediate_size", "intermediate_size_mlp"], 24),
    **dict.fromkeys(["expert_ffn_hidden_size", "ffn_hidden_size", "dim_ff", "d_inner", "feed_forward_size"], 24),
    **dict.fromkeys(["moe_shared_expert_intermediate_size", "prefix_dense_intermediate_size"], 24),
    **dict.fromkeys(["num_experts", "n_routed_experts", "num_local_experts", "moe_num_experts"], 4),
    **dict.fromkeys(["num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k", "top_k_experts"], 2),
    **dict.fromkeys(["n_shared_experts", "num_shared_experts", "moe_num_shared_experts"], 1),
    **dict.fromkeys(["n_group", "num_expert_group", "topk_group", "zero_expert_num"], 1),
    **dict.fromkeys(["first_k_dense_replace", "num_dense_layers", "moe_layer_start_index"], 1),
    **dict.fromkeys(["moe_layer_end_index"], LAYERS - 1),
    **dict.fromkeys(["max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "context_length"], POSITIONS),
    **dict.fromkeys(["model_max_length", "original_max_position_embeddings", "max_target_positions"], POSITIONS),
    **dict.fromkeys(["sliding_window", "window_size", "local_attention", "attention_window_size", "index_topk"], WINDOW),
    **dict.fromkeys(["sliding_window_size", "attention_chunk_size", "keep_window_size"], WINDOW),
    **dict.fromkeys(["index_n_heads", "indexer_n_heads"], 2),
    **dict.fromkeys(["mamba_d_state", "state_size", "ssm_state_size", "lru_width"], 16),
    **dict.fromkeys(["mamba_d_conv", "conv_kernel", "linear_conv_kernel_dim", "short_conv_kernel_size"], 3),
    **dict.fromkeys(["mamba_n_heads", "mamba_num_heads", "n_mamba_heads", "linear_num_heads"], 4),
    **dict.fromkeys(["mamba_d_head", "mamba_head_dim", "mamba_headdim"], 16),
    **dict.fromkeys(["linear_num_key_heads", "linear_num_value_heads"], 4),
    **dict.fromkeys(["linear_key_head_dim", "linear_value_head_dim", "linear_head_dim"], HEAD_DIM),
    **dict.fromkeys(["mamba_chunk_size", "chunk_size", "block_size"], 8),
    **dict.fromkeys(["mamba_dt_rank", "time_step_rank"], 4),
    **dict.fromkeys(["n_groups", "mamba_n_groups", "mamba_ngroups"], 1),
    **dict.fromkeys(["hidden_size_per_layer_input", "router_hidden_size", "d_rel"], 8),
    **dict.fromkeys(["num_kv_shared_layers"], 0),
    **dict.fromkeys(["rel_extent"], 16),
    **dict.fromkeys(["pronunciation_vocab_size", "shape_vocab_size", "encoder_hash_byte_group_vocab"], len(VOCABULARY)),
    **dict.fromkeys(["pronunciation_embed_dim", "shape_embed_dim", "encoder_hidden_size", "backbone_hidden_size", "hidden_size_global"], WIDTH),
    **dict.fromkeys(["num_blocks", "depth"], 1),
    "initializer_range": 0.05,
    "type_vocab_size": 2,
}
"""By name of a field, its value in a tiny configuration; a field that is None stays so, except token ids."""

NOT_OF_A_LAYER = frozenset({"id2label", "label2id", "architectures"})


def tiny_config(model_type: str, **changes: Any) -> PretrainedConfig:
    """The configuration of a type, shrunk.

    Args:
        model_type: as transformers names it.
        changes: fields that make one face of the type, over all else.
    """
    return _shrunk(CONFIG_MAPPING[model_type], SPECIAL.get(model_type, {}) | changes)


def _shrunk(kind: Any, changes: Mapping[str, Any]) -> PretrainedConfig:
    special = SPECIAL.get(kind.model_type, {}) | dict(changes)
    default = kind(**special.pop("default", {}))
    fields = {name: value for name, value in default.to_dict().items() if name not in NOT_OF_A_LAYER}
    depth = next((fields[name] for name in _DEPTHS if isinstance(fields.get(name), int)), None)
    values: dict[str, Any] = {}
    for name, value in fields.items():
        if name in special:
            continue
        if name in getattr(kind, "sub_configs", {}):
            if value is not None:
                own = kind.sub_configs[name]
                found = getattr(default, name)
                values[name] = _shrunk(type(found) if isinstance(found, PretrainedConfig) else own, {}).to_dict()
        elif isinstance(value, list) and len(value) == depth and name in SIZES:
            values[name] = [SIZES[name]] * LAYERS
        elif isinstance(value, list) and len(value) == depth:
            values[name] = _one_of_each(value, LAYERS)
        elif name in SIZES and (value is not None or name.endswith("_token_id")):
            values[name] = SIZES[name]
    if "num_key_value_heads" in values:
        given = fields["num_key_value_heads"]
        heads = fields.get("num_attention_heads", given)
        values["num_key_value_heads"] = 1 if given == 1 else HEADS if "kv_lora_rank" in fields else 2
    if "head_dim" in values and fields.get("head_dim") == fields.get("qk_rope_head_dim"):
        values["head_dim"] = SIZES["qk_rope_head_dim"]
    return kind(**(values | special))


_DEPTHS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers", "num_decoder_layers")


def _one_of_each(entries: list[Any], length: int) -> list[Any]:
    """Different entries in the order in which they come, over and over."""
    different = [entry for place, entry in enumerate(entries) if entry not in entries[:place]]
    return [different[place % len(different)] for place in range(length)]


_BOTH_ROPES = {kind: {"rope_type": "default", "rope_theta": 10000.0} for kind in ("full_attention", "sliding_attention")}
_NO_LAYER_INPUT = {"hidden_size_per_layer_input": 0, "vocab_size_per_layer_input": 0}
_QWEN4 = {"indexer_n_heads": 2, "indexer_kv_heads": 1, "indexer_head_dim": 8, "indexer_budget": 4} | {
    "indexer_compress_ratio": 2
}

SPECIAL: dict[str, dict[str, Any]] = {
    "bamba": {"attn_layer_indices": [1, 3]},
    "blt": {"use_cache": False},
    "cohere_compass_text": {"rope_parameters": _BOTH_ROPES},
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "clip_qkv": 8.0, "rope_theta": 10000.0},
        "ffn_config": {"ffn_hidden_size": 24, "moe_num_experts": 4, "moe_top_k": 2},
    },
    "deepseek_v2": {"num_experts_per_tok": 2},
    "dots1": {"num_experts_per_tok": 2, "n_routed_experts": 4, "n_shared_experts": 1},
    "dots3_note_text": {"swa_num_attention_heads": 4, "swa_num_key_value_heads": 4}
    | {"swa_q_lora_rank": 16, "swa_kv_lora_rank": 16, "swa_head_dim": 12, "swa_qk_nope_head_dim": 8}
    | {"swa_v_head_dim": 8},
    "dots3_note_vision_encoder": {"adapter_in_dim": WIDTH, "adapter_out_dim": WIDTH, "pyramid_num_routed": [2, 2, 2, 2]},
    "dots3_note_audio_encoder": {"adapter_input_size": WIDTH, "adapter_out_dim": WIDTH},
    "falcon_h1": {"mamba_d_ssm": 64},
    "gemma4_text": {"global_head_dim": 16},
    "gemma4_unified_text": {"global_head_dim": 16},
    "granitemoehybrid": {"layer_types": ["linear_attention", "full_attention"] * (LAYERS // 2)},
    "hunyuan_v1_dense": {"head_dim": HEAD_DIM},
    "hunyuan_v1_moe": {"head_dim": HEAD_DIM},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "laguna": {"num_attention_heads_per_layer": [HEADS] * LAYERS},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * (LAYERS // 2)},
    "ministral": {"head_dim": HEAD_DIM},
    "nemotron": {"num_key_value_heads": 2},
    "qwen4_exp_text": _QWEN4,
    "reformer": {"is_decoder": True, "attention_head_size": 8, "axial_pos_shape": [8, 8], "axial_pos_embds_dim": [16, 16]}
    | {"attn_layers": ["local", "lsh"] * 2, "local_attn_chunk_length": 4, "lsh_attn_chunk_length": 4},
    "gemma4_assistant": {"text_config": {}},
    "mamba2": {"num_heads": 8, "head_dim": 8},
    "xlstm": {"num_blocks": LAYERS, "hidden_size": 64, "qk_dim_factor": 1.0},
    "xmod": {"default_language": "en_XX"},
    "zaya": {"num_experts_per_tok": 1},
}
"""By type, fields that its names do not tell."""
