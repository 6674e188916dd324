"""Which settings are tried: the bridge to Optuna."""
