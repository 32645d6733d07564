"""Images in, detections out, and their accuracy."""
