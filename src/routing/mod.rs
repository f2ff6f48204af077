//! Which queues does this message reach?
