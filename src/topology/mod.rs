//! Exchanges, queues and bindings from the TOML file.
