//! Data model and commands.
