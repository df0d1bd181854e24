"""What we look into: loading a model safely, listing its layers, the models of the kit."""
