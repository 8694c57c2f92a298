"""Container engines: the contract, probing and choosing, and one module an engine."""
