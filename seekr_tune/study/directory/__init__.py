"""What lies where in a study's directory, and who may write there."""
