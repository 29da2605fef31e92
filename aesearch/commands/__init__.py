"""What the commands of ``python -m aesearch`` do; each is given its parsed options and returns an exit status."""
