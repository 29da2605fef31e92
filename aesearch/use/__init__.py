"""Uses of a trained model: ``python -m aesearch use MODEL ACTION``."""
