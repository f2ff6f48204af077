//! The TOML file's settings.
