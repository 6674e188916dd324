"""A tiny random model of every causal language model of the installed transformers, and what is true of it.

`shrink` makes a configuration tiny, `build` writes a model directory, `oracle` says whether the tap computes what
transformers computes, `census` puts all types through both.
"""
