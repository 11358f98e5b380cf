//! Tests of the block device against a back end in memory.
