//! What the broker has to know of a message without looking into its properties
//! each time.

/// Facts about one message, found when it is published and kept with it; one
/// octet, in memory as on disk.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Traits(u8);

impl Traits {
    /// Nothing but whether it asks to survive a restart.
    #[must_use]
    pub fn new(persistent: bool) -> Self {
        Self(if persistent { PERSISTENT } else { 0 })
    }

    /// Out of the octet that a file holds; unknown bits are dropped.
    #[must_use]
    pub fn from_bits(bits: u8) -> Self {
        Self(bits & KNOWN)
    }

    /// As a file holds it.
    #[must_use]
    pub fn bits(self) -> u8 {
        self.0
    }

    /// Whether the publisher asked that it survive a restart.
    #[inline]
    #[must_use]
    pub fn persistent(self) -> bool {
        self.0 & PERSISTENT != 0
    }

    /// Whether it has a TTL of its own: the property `expiration`.
    #[inline]
    #[must_use]
    pub fn expires(self) -> bool {
        self.0 & EXPIRES != 0
    }

    /// Whether it is to be delivered later: the header `x-delay` or
    /// `x-deliver-at`.
    #[inline]
    #[must_use]
    pub fn scheduled(self) -> bool {
        self.0 & SCHEDULED != 0
    }

    /// Whether it has routing keys that consumers must not see: the header
    /// `BCC`.
    #[inline]
    #[must_use]
    pub fn has_blind_copies(self) -> bool {
        self.0 & BLIND_COPIES != 0
    }

    /// Whether it is no message but takes scheduled ones back: the header
    /// `x-cancel-scheduled`.
    #[inline]
    #[must_use]
    pub fn cancels(self) -> bool {
        self.0 & CANCELS != 0
    }

    /// Whether a queue without rules of its own has to look into it.
    #[inline]
    #[must_use]
    pub fn is_special(self) -> bool {
        self.0 & (EXPIRES | SCHEDULED | CANCELS) != 0
    }

    /// It has a TTL of its own.
    #[must_use]
    pub fn with_expiration(self) -> Self {
        Self(self.0 | EXPIRES)
    }

    /// It takes scheduled messages back.
    #[must_use]
    pub fn with_cancellation(self) -> Self {
        Self(self.0 | CANCELS)
    }

    /// It has the header `BCC`.
    #[must_use]
    pub fn with_blind_copies(self) -> Self {
        Self(self.0 | BLIND_COPIES)
    }

    /// It is to be delivered later.
    #[must_use]
    pub fn with_schedule(self) -> Self {
        Self(self.0 | SCHEDULED)
    }
}

const PERSISTENT: u8 = 1;
const EXPIRES: u8 = 2;
const SCHEDULED: u8 = 4;
const BLIND_COPIES: u8 = 8;
const CANCELS: u8 = 16;
const KNOWN: u8 = PERSISTENT | EXPIRES | SCHEDULED | BLIND_COPIES | CANCELS;
