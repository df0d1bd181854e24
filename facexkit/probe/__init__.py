"""How we look: hooks, the streaming pass, attribution maps."""
