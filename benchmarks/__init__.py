"""Compare the speed of a training step with other libraries and with its matrix products alone."""
