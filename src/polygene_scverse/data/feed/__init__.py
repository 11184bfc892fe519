"""From tokens to the batches of the network."""
