"""What is reported: configurations are chosen, and the test split is opened."""
