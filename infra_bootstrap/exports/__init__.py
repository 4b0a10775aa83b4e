"""A run's curves and decision, for TensorBoard and MLflow."""
