"""Tests of seekr_tune.cluster."""
