//! The Redis wire codec.
