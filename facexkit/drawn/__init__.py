"""The built-in faces: drawn, with planted causes, and the models that learn from them."""
