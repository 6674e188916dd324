"""What was served, and rightly, before models were compared at load: none of it may be refused. Data of the tests."""

from __future__ import annotations

_TYPES = """
    afmoe apertus arcee aria_text axk1 beam bitnet cohere cohere2 cohere2_moe cohere_compass_text ctrl cwm dbrx
    deepseek_v2 deepseek_v3 dots1 ernie4_5 ernie4_5_moe exaone4 exaone_moe flex_olmo gemma gemma3_text
    gemma3n_text glm glm4 glm4_moe glm4_moe_lite gpt-sw3 gpt2 gpt_bigcode gpt_neox granite granitemoe
    granitemoeshared helium hunyuan_v1_dense hunyuan_v1_moe hy_v3 hyperclovax internlm3 iquestcoder jais2 jetmoe
    kolibri1 laguna lfm2 llama llama4_text longcat_flash mellum minicpm3 minimax_m2 minimax_m3_vl_text ministral
    ministral3 mistral mixtral modernbert-decoder moshi nanochat olmo olmo2 olmo3 olmoe opt persimmon phi phi3
    phi4_multimodal phimoe qwen2 qwen2_moe qwen3 qwen3_moe seed_oss smollm3 solar_open starcoder2 youtu zaya
"""
_FACES = (
    "axk2, index wider than a sample",
    "bert, decoder",
    "bert-generation, decoder",
    "cohere, norms of queries and keys",
    "deepseek_v32, index wider than a sample",
    "dots3_note_text, index wider than a sample",
    "electra, decoder",
    "ernie, decoder",
    "gemma2, no soft cap",
    "gemma3n_text, shared keys",
    "gemma4_text, one head width",
    "gemma4_text, values are keys",
    "gemma4_text, experts",
    "gemma4_unified_text, one head width",
    "glm_moe_dsa, index wider than a sample",
    "gpt2, scores scaled by layer",
    "gpt_bigcode, a key head each",
    "gpt_neox, serial residual",
    "granite, multipliers",
    "granitemoe, multipliers",
    "granitemoehybrid, full attention everywhere",
    "granitemoeshared, multipliers",
    "hyperclovax, multipliers",
    "lfm2_moe, full attention everywhere",
    "lfm3, full attention everywhere",
    "llama, rope of llama 3",
    "llama, yarn",
    "llama, biases",
    "llama, a key head each",
    "llama4_text, no temperature",
    "minimax, full attention everywhere",
    "ministral3, window",
    "mistral, window",
    "mistral, no window",
    "mixtral, window",
    "mixtral, no window",
    "olmo, clipped",
    "olmoe, clipped",
    "opt, norms behind layers",
    "persimmon, no norms of queries and keys",
    "phi, norms of queries and keys",
    "phi3, window",
    "phi3, long rope",
    "qwen2, window in late layers",
    "qwen2_moe, window in late layers",
    "qwen3, window in late layers",
    "qwen3_moe, window",
    "roc_bert, decoder",
    "smollm3, window in late layers",
    "starcoder2, window",
    "starcoder2, no window",
    "vaultgemma, no soft cap",
    "zaya, window",
)
SERVED = frozenset((*_TYPES.split(), *_FACES))
"""Cases by their names: types, and faces of types."""

UNBUILT = {
    "gemma3n": "its pictures need timm, which is not installed",
    "gemma4_assistant": "no configuration of it passes its own checks (transformers 5.23)",
    "gemma4_unified_assistant": "its layers share keys of layers that it does not have (transformers 5.23)",
    "musicgen": "AutoModelForCausalLM cannot make it from its own configuration (transformers 5.23)",
    "musicgen_melody": "AutoModelForCausalLM cannot make it from its own configuration (transformers 5.23)",
}
"""Types of which no tiny model can be made, and why."""
