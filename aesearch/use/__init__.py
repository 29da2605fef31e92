"""What people do with a trained model: ``python -m aesearch use MODEL ACTION``."""
