"""What an attention YOLO takes to run, proved before it is timed."""

__version__ = "0.1.0"
