"""What is fitted after training, in numpy: arrays in, arrays out."""
