"""Tests of how a stream is learned."""
