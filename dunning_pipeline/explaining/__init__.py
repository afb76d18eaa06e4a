"""What `dunning explain` tells: facts read from a scratch warehouse, and sentences made of them, a module per step."""
