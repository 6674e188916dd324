"""A hyperparameter-study framework for SEEKR continual learning."""
