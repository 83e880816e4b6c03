//! The LSM key-value engine.
