//! The store's promises, tried by taking the broker away. Cutting the power
//! takes root; see `disk.rs`.

mod disk;
