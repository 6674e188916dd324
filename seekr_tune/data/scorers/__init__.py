"""What scores of the package compute, one function of a sample each; `data.scoring` has them by name."""
