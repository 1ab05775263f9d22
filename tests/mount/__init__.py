"""Tests on a real mount. HELIOSFS_TEST_DIRECTORY=DIR runs the POSIX ones in DIR on the host's filesystem."""
