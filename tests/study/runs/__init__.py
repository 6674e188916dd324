"""Tests of seekr_tune.study.runs."""
