"""What we count: accumulators, and the statistics made from them."""
