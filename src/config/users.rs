//! Who may log in, from where and to which virtual hosts.

use std::collections::BTreeMap;
use std::net::IpAddr;

use toml::de::DeValue;

use crate::model::{UserName, VhostName};

use super::document::{Located, TableReader, did_you_mean};
use super::kind::{Flag, Kind, List, Name, SecretText};
use super::password::{Password, PasswordHash};
use super::secret::Secret;

/// One user.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct User {
    /// The name to log in by.
    pub name: UserName,
    /// What it takes.
    pub password: Password,
    /// Which virtual hosts the user may open.
    pub vhosts: Vec<VhostName>,
    /// Whether the user may come from this machine only.
    pub loopback_only: bool,
}

/// All users by name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Users(BTreeMap<UserName, User>);

impl User {
    /// `guest` with the password `guest`, from loopback: what there is without
    /// any `[[user]]`.
    #[must_use]
    pub fn guest() -> Self {
        Self {
            name: UserName::from("guest"),
            password: Password::Plain(Secret::from("guest")),
            vhosts: vec![VhostName::from("/")],
            loopback_only: true,
        }
    }

    /// Whether a connection from that address may be this user's. IPv4
    /// addresses in IPv6 form count as what they are.
    #[must_use]
    pub fn may_come_from(&self, peer: IpAddr) -> bool {
        !self.loopback_only || peer.to_canonical().is_loopback()
    }

    /// Whether the user may open that virtual host.
    #[must_use]
    pub fn may_open(&self, vhost: &VhostName) -> bool {
        self.vhosts.contains(vhost)
    }

    /// Reads one `[[user]]` of a file that defines these virtual hosts.
    pub(super) fn read(table: &mut TableReader<'_>, known: &[VhostName]) -> Option<User> {
        let name = table.required("name", Name);
        let password = Self::read_password(table);
        let loopback_only = table.read("loopback_only", Flag, false);
        let vhosts = match table.optional("vhosts", List(Name)) {
            Some(vhosts) => read_vhosts(&vhosts, table, known),
            None => vec![VhostName::from("/")],
        };
        let password = password?;
        let user = User {
            name: UserName::from(name?.value),
            password: password.value,
            vhosts,
            loopback_only,
        };
        if matches!(user.password, Password::Plain(_)) && user != Self::guest() {
            let text = format!(
                "the password of user '{}' stands here in the clear, \
                 'leveret hash-password' turns it into a password_hash",
                user.name
            );
            table.document().warn(password.position, text);
        }
        Some(user)
    }

    fn read_password(table: &mut TableReader<'_>) -> Option<Located<Password>> {
        let (has_hash, has_plain) = (table.contains("password_hash"), table.contains("password"));
        let hash = table.optional("password_hash", HashText);
        let plain = table.optional("password", SecretText);
        if has_hash && has_plain {
            table.error("[[user]] has a password and a password_hash, one is enough".to_owned());
        }
        if !has_hash && !has_plain {
            table.error(
                "[[user]] needs a key 'password_hash', whose value 'leveret hash-password' prints"
                    .to_owned(),
            );
        }
        if let Some(plain) = &plain
            && plain.value.reveal().is_empty()
        {
            let text = "'password' in [[user]]: an empty one would let anybody in".to_owned();
            table.document().error(plain.position, text);
            return None;
        }
        match hash {
            Some(hash) => Some(hash.map(Password::Hashed)),
            None => Some(plain?.map(Password::Plain)),
        }
    }
}

impl Users {
    /// These users; of two with the same name the later counts.
    #[must_use]
    pub fn new(users: impl IntoIterator<Item = User>) -> Self {
        Self(
            users
                .into_iter()
                .map(|user| (user.name.clone(), user))
                .collect(),
        )
    }

    /// The user of that name and password. May take tens of milliseconds and
    /// 19 MiB, so it belongs on a thread that may block; a refusal takes the
    /// same time whether the name or the password was wrong.
    #[must_use]
    pub fn verify(&self, name: &str, password: &[u8]) -> Option<&User> {
        let user = self.0.get(name);
        if let Some(user) = user
            && user.password.verify(password)
        {
            return Some(user);
        }
        let checked_a_hash = matches!(user.map(|user| &user.password), Some(Password::Hashed(_)));
        if !checked_a_hash {
            self.waste_a_check(password);
        }
        None
    }

    /// The same where the password stands as it is and is right, which takes no
    /// time to find out. Everything else is for [`Users::verify`].
    #[must_use]
    pub fn verify_at_once(&self, name: &str, password: &[u8]) -> Option<&User> {
        let user = self.0.get(name)?;
        match &user.password {
            plain @ Password::Plain(_) if plain.verify(password) => Some(user),
            _ => None,
        }
    }

    /// The user of that name.
    #[must_use]
    pub fn user(&self, name: &str) -> Option<&User> {
        self.0.get(name)
    }

    /// All users in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &User> {
        self.0.values()
    }

    /// Does what checking a hash does, if there are users with one.
    fn waste_a_check(&self, password: &[u8]) {
        let hash = self.0.values().find_map(|user| match &user.password {
            Password::Hashed(hash) => Some(hash),
            Password::Plain(_) => None,
        });
        if let Some(hash) = hash {
            std::hint::black_box(hash.verify_slowly(password));
        }
    }
}

impl Default for Users {
    fn default() -> Self {
        Self::new([User::guest()])
    }
}

fn read_vhosts(
    names: &Located<Vec<String>>,
    table: &TableReader<'_>,
    known: &[VhostName],
) -> Vec<VhostName> {
    for name in &names.value {
        if known.iter().any(|vhost| vhost.as_str() == name) {
            continue;
        }
        let meant = did_you_mean(name, known.iter().map(VhostName::as_str));
        let text = match meant {
            Some(meant) => format!("no [[vhost]] '{name}', did you mean '{meant}'?"),
            None => format!("no [[vhost]] '{name}' is defined"),
        };
        table.document().error(names.position, text);
    }
    names
        .value
        .iter()
        .map(|name| VhostName::from(name.as_str()))
        .collect()
}

/// What `leveret hash-password` prints.
struct HashText;

impl Kind for HashText {
    type Value = PasswordHash;

    fn expected(&self) -> String {
        "an argon2 hash as 'leveret hash-password' prints it".to_owned()
    }

    fn read(&self, value: &DeValue<'_>) -> Option<PasswordHash> {
        value.as_str()?.parse().ok()
    }

    fn is_secret(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::password::tests::cheap_hash;
    use super::*;

    #[test]
    fn loopback_is_judged_by_the_peer_address() {
        let guest = User::guest();
        for (peer, may) in [
            ("127.0.0.1", true),
            ("127.8.8.8", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("10.0.0.1", false),
            ("0.0.0.0", false),
            ("::ffff:10.0.0.1", false),
            ("::127.0.0.1", false),
            ("fe80::1", false),
        ] {
            let peer: IpAddr = peer.parse().expect("the rows are addresses");
            assert_eq!(guest.may_come_from(peer), may, "{peer}");
        }
        let anywhere = User {
            loopback_only: false,
            ..guest
        };
        assert!(anywhere.may_come_from("10.0.0.1".parse().expect("an address")));
    }

    #[test]
    fn verify_takes_the_right_name_and_password_only() {
        let hashed = User {
            name: UserName::from("ada"),
            password: Password::Hashed(cheap_hash("engine")),
            ..User::guest()
        };
        let users = Users::new([User::guest(), hashed]);
        for (name, password, accepted) in [
            ("guest", "guest", true),
            ("guest", "engine", false),
            ("ada", "engine", true),
            ("ada", "guest", false),
            ("nobody", "guest", false),
            ("", "", false),
        ] {
            let user = users.verify(name, password.as_bytes());
            let at_once = users.verify_at_once(name, password.as_bytes());
            assert_eq!(at_once.is_some(), accepted && name == "guest", "{name}");
            let expected = accepted.then_some(name);
            assert_eq!(
                user.map(|user| user.name.as_str()),
                expected,
                "{name}/{password}"
            );
        }
    }
}
