"""Tests of seekr_tune.study.life."""
