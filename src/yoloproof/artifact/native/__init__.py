"""The native engine: a simplified network as a launch plan, kernels compiled ahead, and the file that holds both."""
