//! Arguments into settings: one table row per argument.
