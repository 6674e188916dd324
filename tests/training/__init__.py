"""Tests of seekr_tune.training."""
