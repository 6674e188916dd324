"""What is learned, in which order: data in, batches and scores out."""
