"""Single steps without Ray, on one GPU or CPU: what they take, and what they could take."""
