"""What came out: the ledger, the ranking, TensorBoard."""
