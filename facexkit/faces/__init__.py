"""What we look at: face sets and their readers, the region vocabulary, masks, alignment, built-in faces."""
