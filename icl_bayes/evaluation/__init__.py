"""Two-sample metrics and convergence diagnostics: arrays in, numbers out."""
