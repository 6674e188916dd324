"""Tests of seekr_tune.study.plan."""
