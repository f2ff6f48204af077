//! Names as types, so that one kind is never taken for another.

use std::borrow::Borrow;
use std::fmt;

use leveret_protocol::SmolStr;

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub struct $name(SmolStr);

        impl $name {
            /// The name as the client wrote it.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// Whether the name is empty.
            #[must_use]
            pub fn is_empty(&self) -> bool {
                self.0.is_empty()
            }
        }

        impl From<&str> for $name {
            fn from(name: &str) -> Self {
                Self(SmolStr::new(name))
            }
        }

        impl From<String> for $name {
            fn from(name: String) -> Self {
                Self(SmolStr::from(name))
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

names! {
    /// A virtual host.
    VhostName;
    /// An exchange; the empty name is the default exchange.
    ExchangeName;
    /// A queue.
    QueueName;
    /// A consumer, unique on its channel.
    ConsumerTag;
    /// A user.
    UserName;
}

impl ExchangeName {
    /// Whether this is the default exchange, which binds every queue by its name.
    #[must_use]
    pub fn is_default(&self) -> bool {
        self.is_empty()
    }

    /// Whether the broker keeps the name for itself.
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        self.as_str().starts_with("amq.")
    }
}
