"""GPU kernels for small batches: one operation, one file (kernel, launcher, configurations).

At batch 1 every launch costs two or three microseconds however little it does, so concatenations are never made (the
next convolution reads its inputs where they lie), bias, activation and residual belong to the convolution before, and
branches that do not read each other run side by side.
"""
