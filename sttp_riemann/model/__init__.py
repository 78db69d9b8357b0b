"""What is done to a whole model, one verb or measure a module."""
