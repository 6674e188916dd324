"""How a stream is learned: the continual loop, callable in a plain Python session."""
