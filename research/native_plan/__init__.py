"""What a native engine's launch plan computes, in NumPy: its kernels' references, and a plan executed with them."""
