"""Line loss of a month."""
