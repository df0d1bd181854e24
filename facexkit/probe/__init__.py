"""How we look: hooks, edits, exchanges, attribution maps, and the one pass over a face set."""
