"""A CUDA driver that runs on the host, and what tests do with it.

`driver/` is `libcuda.so.1` in C++, `build.py` makes it and PyCUDA on top of it, `control.py` is how a test talks to it,
`references.py` carries launches out, and `suite/` holds the tests that run on it, each file in a process of its own:

    python -m tests.simulated_cuda tests/simulated_cuda/suite/test_driver.py
"""
