//! What a peer may make the codec do.

/// Bounds on what is decoded. Every length a peer sends is checked against
/// these, or against the bytes that are really there, before it is believed.
///
/// A decoded table takes up to 32 times its octets in memory (an array of
/// voids does), so `frame_max` and `table_entries_max` bound what one method
/// can take: 4 MiB by default.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Largest frame in octets, its 8 octets of envelope included.
    pub frame_max: u32,
    /// How deep tables and arrays may nest; a method's own table is level 1.
    pub table_depth_max: u8,
    /// How many values one table may hold, nested ones included.
    pub table_entries_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frame_max: 131_072,
            table_depth_max: 64,
            table_entries_max: 65_536,
        }
    }
}
