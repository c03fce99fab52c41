"""What a measured step says of more machines than there are: images/s and time to train, by a model."""
