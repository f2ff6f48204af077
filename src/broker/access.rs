//! Who may log in, and where to.
//!
//! Checking a hashed password costs 19 MiB and milliseconds on purpose. So that
//! a storm of logins is no denial of service, few checks run at once, away from
//! the threads that serve connections.

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::Semaphore;

use crate::config::{User, Users};
use crate::model::{UserName, VhostName};

/// The users of a broker.
#[derive(Debug)]
pub struct Access {
    users: ArcSwap<Users>,
    checks: Semaphore,
}

/// Why a login was refused; for the log, never for the client.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum LoginRefused {
    /// Unknown user or wrong password.
    #[error("invalid credentials")]
    Invalid,
    /// A user that is limited to loopback came from elsewhere.
    #[error("this user can only connect from loopback")]
    NotLoopback,
}

impl Access {
    /// These users and no others.
    #[must_use]
    pub fn new(users: Users) -> Self {
        Self {
            users: ArcSwap::from_pointee(users),
            checks: Semaphore::new(CHECKS_AT_ONCE),
        }
    }

    /// Other users from now on; who is connected stays.
    pub fn replace(&self, users: Users) {
        self.users.store(Arc::new(users));
    }

    /// Checks a login from `peer`.
    ///
    /// # Errors
    /// Whatever is wrong with it; the time taken does not tell which.
    pub async fn login(
        &self,
        name: &UserName,
        password: Vec<u8>,
        peer: IpAddr,
    ) -> Result<(), LoginRefused> {
        let users = self.users.load_full();
        let from_here = move |user: &User| match user.may_come_from(peer) {
            true => Ok(()),
            false => Err(LoginRefused::NotLoopback),
        };
        if let Some(user) = users.verify_at_once(name.as_str(), &password) {
            return from_here(user);
        }
        let name = name.clone();
        let Ok(_permit) = self.checks.acquire().await else {
            return Err(LoginRefused::Invalid);
        };
        let checked = tokio::task::spawn_blocking(move || {
            let user = users.verify(name.as_str(), &password);
            from_here(user.ok_or(LoginRefused::Invalid)?)
        });
        checked.await.unwrap_or(Err(LoginRefused::Invalid))
    }

    /// Whether a user may open a virtual host.
    #[must_use]
    pub fn may_open(&self, user: &UserName, vhost: &VhostName) -> bool {
        self.users
            .load()
            .user(user.as_str())
            .is_some_and(|user| user.may_open(vhost))
    }
}

/// Passwords checked at the same time: a hashed one takes 19 MiB.
const CHECKS_AT_ONCE: usize = 2;
