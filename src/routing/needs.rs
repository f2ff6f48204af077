//! What, beside the routing keys, decides where a message goes.

use std::ops::{BitOr, BitOrAssign};

/// A set of such things. Where it is empty, the exchange and the keys tell all,
/// and a route that was found once stands until an exchange or binding changes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Needs(u8);

impl Needs {
    /// Nothing.
    pub const NOTHING: Self = Self(0);
    /// The headers.
    pub const HEADERS: Self = Self(1);
    /// Properties that tell messages apart: [`super::Identifiers`].
    pub const IDENTIFIERS: Self = Self(2);
    /// A number drawn for each message.
    pub const RANDOM: Self = Self(4);
    /// Nothing for this message, but an exchange that it visits keeps it for
    /// those who bind later.
    pub const HISTORY: Self = Self(8);
    /// What messages that have no headers differ in, too.
    pub const BEYOND_HEADERS: Self = Self(2 | 4 | 8);

    /// Whether anything of `other` is in it.
    #[must_use]
    pub const fn any(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

impl BitOr for Needs {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Needs {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}
