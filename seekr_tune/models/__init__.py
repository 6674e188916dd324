"""The model that is updated: what lies in its directory, whether it is served, and its tokenizer."""
