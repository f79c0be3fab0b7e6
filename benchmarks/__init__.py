"""How fast a training step is, as a ratio inside one run: against peers, and against its matrix products alone."""
