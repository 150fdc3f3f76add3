//! Real servers for tests: each starts in a folder of its own on a free port and ends with its handle.
