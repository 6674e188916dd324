"""Sizes of tiny configurations, by the names of fields; and by type, what names do not tell."""

from __future__ import annotations

from typing import Any

from tests.loop.tiny import VOCABULARY

LAYERS = 4
HEADS = 4
WIDTH = 32
HEAD_DIM = 8
ROTARY_DIM = 4
POSITIONS = 64
INDEX_HEADS = 16
"""Of an indexer: with few, the scores of many keys are all zero, and which of those are chosen is left to chance."""
WINDOW = 5
"""Keys that are seen where a type has a window, an index, chunks or blocks: fewer than the tokens of a sample."""

_NAMES: tuple[tuple[float, str], ...] = (
    (
        len(VOCABULARY),
        "vocab_size decoder_vocab_size vocab_size_per_layer_input pronunciation_vocab_size shape_vocab_size "
        "encoder_hash_byte_group_vocab",
    ),
    (1, "pad_token_id"),
    (2, "bos_token_id"),
    (3, "eos_token_id sep_token_id decoder_start_token_id"),
    (2, "type_vocab_size"),
    (
        WIDTH,
        "hidden_size d_model n_embd emb_dim embedding_size word_embed_proj_dim pronunciation_embed_dim "
        "shape_embed_dim encoder_hidden_size backbone_hidden_size hidden_size_global",
    ),
    (
        LAYERS,
        "num_hidden_layers n_layer n_layers num_layers decoder_layers num_decoder_layers encoder_layers "
        "num_encoder_layers",
    ),
    (
        HEADS,
        "num_attention_heads n_head n_heads num_heads attention_heads swa_num_attention_heads "
        "decoder_attention_heads num_decoder_attention_heads encoder_attention_heads "
        "num_encoder_attention_heads",
    ),
    (
        2,
        "num_key_value_heads swa_num_key_value_heads num_kv_heads num_query_groups",
    ),
    (INDEX_HEADS, "index_n_heads indexer_n_heads"),
    (
        HEAD_DIM,
        "head_dim swa_head_dim attention_head_dim kv_channels dim_head d_head v_head_dim qk_nope_head_dim "
        "index_head_dim indexer_head_dim rotary_dim linear_key_head_dim linear_value_head_dim linear_head_dim",
    ),
    (ROTARY_DIM, "qk_rope_head_dim"),
    (ROTARY_DIM + HEAD_DIM, "qk_head_dim"),
    (16, "kv_lora_rank q_lora_rank o_lora_rank adapter_rank laurel_rank"),
    (48, "intermediate_size ffn_dim decoder_ffn_dim encoder_ffn_dim n_inner dff"),
    (
        24,
        "moe_intermediate_size shared_expert_intermediate_size shared_experts_intermediate_size "
        "moe_shared_expert_intermediate_size shared_intermediate_size dense_intermediate_size "
        "prefix_dense_intermediate_size intermediate_size_mlp expert_ffn_hidden_size ffn_hidden_size dim_ff "
        "d_inner feed_forward_size",
    ),
    (4, "num_experts n_routed_experts num_local_experts moe_num_experts"),
    (2, "num_experts_per_tok num_experts_per_token moe_topk moe_k top_k_experts"),
    (
        1,
        "n_shared_experts num_shared_experts moe_num_shared_experts n_group num_expert_group topk_group "
        "zero_expert_num",
    ),
    (1, "first_k_dense_replace num_dense_layers moe_layer_start_index"),
    (LAYERS - 1, "moe_layer_end_index"),
    (
        POSITIONS,
        "max_position_embeddings n_positions n_ctx max_seq_len context_length model_max_length "
        "original_max_position_embeddings max_target_positions",
    ),
    (
        WINDOW,
        "sliding_window sliding_window_size window_size attention_window_size local_attention "
        "attention_chunk_size keep_window_size index_topk",
    ),
    (
        16,
        "mamba_d_state state_size ssm_state_size lru_width mamba_d_head mamba_head_dim mamba_headdim rel_extent",
    ),
    (3, "mamba_d_conv conv_kernel linear_conv_kernel_dim short_conv_kernel_size"),
    (
        4,
        "mamba_n_heads mamba_num_heads n_mamba_heads linear_num_heads linear_num_key_heads "
        "linear_num_value_heads mamba_dt_rank time_step_rank",
    ),
    (8, "mamba_chunk_size chunk_size block_size hidden_size_per_layer_input router_hidden_size d_rel"),
    (1, "n_groups mamba_n_groups mamba_ngroups num_blocks depth"),
    (0, "num_kv_shared_layers"),
    (0.05, "initializer_range"),
)
SIZES = {name: size for size, names in _NAMES for name in names.split()}
"""By name of a field, its value in a tiny configuration; a field that is None stays so, except token ids."""

_ROPE = {"rope_type": "default", "rope_theta": 10000.0}

SPECIAL: dict[str, dict[str, Any]] = {
    "bamba": {"attn_layer_indices": [1, 3]},
    "blt": {"use_cache": False},
    "cohere_compass_text": {"rope_parameters": {"full_attention": _ROPE, "sliding_attention": _ROPE}},
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "clip_qkv": 8.0, "rope_theta": 10000.0},
        "ffn_config": {"ffn_hidden_size": 24, "moe_num_experts": 4, "moe_top_k": 2},
    },
    "deepseek_v2": {"num_experts_per_tok": 2},
    "dots1": {"num_experts_per_tok": 2, "n_routed_experts": 4, "n_shared_experts": 1},
    "dots3_note_text": {
        "swa_num_attention_heads": HEADS,
        "swa_num_key_value_heads": HEADS,
        "swa_q_lora_rank": 16,
        "swa_kv_lora_rank": 16,
        "swa_head_dim": ROTARY_DIM + HEAD_DIM,
        "swa_qk_nope_head_dim": HEAD_DIM,
        "swa_v_head_dim": HEAD_DIM,
    },
    "dots3_note_vision_encoder": {
        "adapter_in_dim": WIDTH,
        "adapter_out_dim": WIDTH,
        "pyramid_num_routed": [2] * LAYERS,
    },
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
    "qwen4_exp_text": {
        "indexer_n_heads": 2,
        "indexer_kv_heads": 1,
        "indexer_head_dim": HEAD_DIM,
        "indexer_budget": 4,
        "indexer_compress_ratio": 2,
    },
    "reformer": {
        "is_decoder": True,
        "attention_head_size": HEAD_DIM,
        "attn_layers": ["local", "lsh"] * (LAYERS // 2),
        "axial_pos_shape": [8, 8],
        "axial_pos_embds_dim": [16, 16],
        "local_attn_chunk_length": 4,
        "lsh_attn_chunk_length": 4,
    },
    "mamba2": {"num_heads": 8, "head_dim": 8},
    "minimax_m3_vl_text": {"index_n_heads": 2},
    "xlstm": {"num_blocks": LAYERS, "hidden_size": 64, "qk_dim_factor": 1.0},
    "xmod": {"default_language": "en_XX"},
    "zaya": {"num_experts_per_tok": 1},
}
"""By type, fields that its names do not tell."""
