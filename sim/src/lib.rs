//! Deterministic simulation of AiDb.
