"""Which settings are tried: Ray Tune and Optuna."""
