"""The HTTP service: accounts, credits, stored results. Knows a :class:`~tunelab.types.Pipeline`, and nothing of Ray."""
