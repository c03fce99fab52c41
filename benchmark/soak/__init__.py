"""Long training runs whose memory, descriptors and shared memory are watched for growth."""
