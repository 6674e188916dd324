"""What scores of the package compute, one function of a sample each; `stream.scoring` has them by name."""
