//! The broker's settings: what stands in the TOML file, with units and
//! defaults, and who may log in.
//!
//! `docs/leveret.sample.toml` describes every key; a test compares it with
//! this. A file is read to its end before it is refused, so that all its
//! errors are reported together, each with its line and column. To add a
//! key: a field, a line in the table's `read`, and a paragraph in the sample.
//!
//! The tables that define exchanges, queues and bindings are read by
//! [`crate::topology`], which also reads whole files.

mod diagnostic;
mod document;
mod kind;
mod password;
mod secret;
mod store;
mod users;

#[cfg(test)]
mod tests;

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

pub use diagnostic::{ConfigErrors, Diagnostic, Position, Severity};
pub use document::{Document, Located, TableReader, did_you_mean};
pub use kind::{
    Flag, Integer, Kind, LimitOrUnlimited, List, NAME_BYTES_MAX, Name, OneOf, OneOrMore, Parsed,
    SecretText, Size, Text, Time, WholeSeconds,
};
pub use password::{HashFailed, NotAHash, Password, PasswordHash, hash_password};
pub use secret::Secret;
pub use store::{MemoryMax, StoreConfig};

pub use crate::model::{Fsync, format_duration, format_size, parse_duration, parse_size};
pub use users::{User, Users};

pub(crate) use document::shown;
pub(crate) use kind::{alternatives, integer};

use crate::model::VhostName;

use kind::Address;
use store::MemoryMaxKind;

/// All settings.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// `[server]`
    pub server: ServerConfig,
    /// `[amqp]`
    pub amqp: AmqpConfig,
    /// `[limits]`
    pub limits: LimitsConfig,
    /// `[store]`
    pub store: StoreConfig,
    /// `[log]`
    pub log: LogConfig,
    /// `[[user]]`
    pub users: Users,
}

/// The broker as a whole.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerConfig {
    /// `product` of `server_properties`.
    pub product: String,
    /// `version` of `server_properties`: the RabbitMQ release that clients may
    /// take this broker for.
    pub version: String,
    /// `cluster_name` of `server_properties`.
    pub cluster_name: String,
    /// Where everything durable goes.
    pub data_dir: PathBuf,
    /// Threads that serve connections; 0 is one per core.
    pub workers: u16,
}

/// The AMQP 0-9-1 listeners.
#[derive(Clone, Debug, PartialEq)]
pub struct AmqpConfig {
    /// Where to listen; port 0 takes a free one.
    pub addresses: Vec<SocketAddr>,
    /// Largest frame in octets, as tune offers it.
    pub frame_max: u32,
    /// How many channels a connection may have open, as tune offers it.
    pub channel_max: u16,
    /// The heartbeat that tune proposes, in seconds; 0 is none.
    pub heartbeat_seconds: u16,
    /// From accept to `connection.open`.
    pub handshake_timeout: Duration,
    /// Connections that may be in their handshake at the same time.
    pub handshakes_max: u32,
}

/// What grows only so far. `None` is without limit.
#[derive(Clone, Debug, PartialEq)]
pub struct LimitsConfig {
    /// Octets of a message's body.
    pub message_bytes_max: u64,
    /// How deep field tables and arrays may nest.
    pub table_depth_max: u8,
    /// Values in one field table, nested ones included.
    pub table_entries_max: u32,
    /// Connections to this broker.
    pub connections_max: Option<u32>,
    /// Connections from one address.
    pub connections_per_address_max: Option<u32>,
    /// Connections of one user.
    pub connections_per_user_max: Option<u32>,
    /// Connections to one virtual host.
    pub connections_per_vhost_max: Option<u32>,
    /// Deliveries that one channel may hold unsettled.
    pub unsettled_per_channel_max: Option<u32>,
    /// Octets that may wait for one connection to read them.
    pub outbox_bytes_max: u64,
    /// The process's memory from which publishers are blocked.
    pub memory_max: MemoryMax,
}

/// The log on standard error.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogConfig {
    /// What is worth a line.
    pub level: LogFilter,
    /// How a line looks.
    pub format: LogFormat,
}

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For machines: an object per line.
    Json,
}

/// Levels for the log: `info`, or levels for parts of the program too, as in
/// `info,leveret::session=debug`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LogFilter(String);

impl Config {
    /// Reads the tables of the configuration from the top of a file; `vhosts`
    /// are those that the file defines. What is wrong is noted in the
    /// document, and has its default in what is returned.
    #[must_use]
    pub fn read(root: &mut TableReader<'_>, vhosts: &[VhostName]) -> Self {
        Self {
            server: ServerConfig::read(root.section("server")),
            amqp: AmqpConfig::read(root.section("amqp")),
            limits: LimitsConfig::read(root.section("limits")),
            store: StoreConfig::read(root.section("store")),
            log: LogConfig::read(root.section("log")),
            users: read_users(root, vhosts),
        }
    }

    /// The tables in which another configuration differs from this, as the
    /// file has them.
    #[must_use]
    pub fn changed_tables(&self, new: &Self) -> Vec<&'static str> {
        [
            ("[server]", self.server != new.server),
            ("[amqp]", self.amqp != new.amqp),
            ("[limits]", self.limits != new.limits),
            ("[store]", self.store != new.store),
            ("[log]", self.log != new.log),
            ("[[user]]", self.users != new.users),
        ]
        .into_iter()
        .filter_map(|(table, changed)| changed.then_some(table))
        .collect()
    }
}

impl ServerConfig {
    fn read(mut table: TableReader<'_>) -> Self {
        let default = Self::default();
        let data_dir = table.optional("data_dir", Text);
        let config = Self {
            product: table.read("product", Name, default.product),
            version: table.read("version", VERSION, default.version),
            cluster_name: table.read("cluster_name", Name, default.cluster_name),
            data_dir: data_dir.map_or(default.data_dir, |path| PathBuf::from(path.value)),
            workers: table.read("workers", WORKERS, default.workers),
        };
        table.finish();
        config
    }
}

impl AmqpConfig {
    fn read(mut table: TableReader<'_>) -> Self {
        let default = Self::default();
        let config = Self {
            addresses: table.read("address", OneOrMore(Address), default.addresses),
            frame_max: table.read("frame_max", FRAME_MAX, default.frame_max),
            channel_max: table.read("channel_max", Integer(1..=u16::MAX), default.channel_max),
            heartbeat_seconds: table.read("heartbeat", HEARTBEAT, default.heartbeat_seconds),
            handshake_timeout: table.read(
                "handshake_timeout",
                HANDSHAKE_TIMEOUT,
                default.handshake_timeout,
            ),
            handshakes_max: table.read(
                "handshakes_max",
                Integer(1..=u32::MAX),
                default.handshakes_max,
            ),
        };
        table.finish();
        config
    }
}

impl LimitsConfig {
    fn read(mut table: TableReader<'_>) -> Self {
        let default = Self::default();
        let mut limit = |key, default| table.read(key, LimitOrUnlimited, default);
        let config = Self {
            connections_max: limit("connections_max", default.connections_max),
            connections_per_address_max: limit(
                "connections_per_address_max",
                default.connections_per_address_max,
            ),
            connections_per_user_max: limit(
                "connections_per_user_max",
                default.connections_per_user_max,
            ),
            connections_per_vhost_max: limit(
                "connections_per_vhost_max",
                default.connections_per_vhost_max,
            ),
            unsettled_per_channel_max: limit(
                "unsettled_per_channel_max",
                default.unsettled_per_channel_max,
            ),
            message_bytes_max: table.read(
                "message_size_max",
                MESSAGE_SIZE_MAX,
                default.message_bytes_max,
            ),
            table_depth_max: table.read(
                "table_depth_max",
                Integer(1..=TABLE_DEPTH_MAX),
                default.table_depth_max,
            ),
            table_entries_max: table.read(
                "table_entries_max",
                Integer(1..=u32::MAX),
                default.table_entries_max,
            ),
            outbox_bytes_max: table.read(
                "outbox_size_max",
                OUTBOX_SIZE_MAX,
                default.outbox_bytes_max,
            ),
            memory_max: table.read("memory_max", MemoryMaxKind, default.memory_max),
        };
        table.finish();
        config
    }
}

impl LogConfig {
    fn read(mut table: TableReader<'_>) -> Self {
        let default = Self::default();
        let level = Parsed {
            expected: LogFilter::EXPECTED,
            read: |text: &str| text.parse().ok(),
        };
        let config = Self {
            level: table.read("level", level, default.level),
            format: table.read("format", OneOf(LogFormat::WORDS), default.format),
        };
        table.finish();
        config
    }
}

impl LogFormat {
    /// The words for them.
    pub const WORDS: &[(&str, Self)] = &[("text", Self::Text), ("json", Self::Json)];
}

impl LogFilter {
    /// Completes "expected …".
    pub const EXPECTED: &str = "off, error, warn, info, debug or trace, and possibly more for parts of the program as in \
         \"info,leveret::session=debug\"";

    /// The filter as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for LogFilter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let levels = ["off", "error", "warn", "info", "debug", "trace"];
        let valid = text.split(',').all(|directive| {
            let (target, level) = directive.split_once('=').unwrap_or(("all", directive));
            let target_letters = |letter: char| letter.is_alphanumeric() || "_:-".contains(letter);
            !target.is_empty() && target.chars().all(target_letters) && levels.contains(&level)
        });
        if valid {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!("expected {}", Self::EXPECTED))
        }
    }
}

impl Default for LogFilter {
    fn default() -> Self {
        Self("info".to_owned())
    }
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            product: "Leveret".to_owned(),
            version: "3.13.7".to_owned(),
            cluster_name: "leveret".to_owned(),
            data_dir: PathBuf::from("leveret-data"),
            workers: 0,
        }
    }
}

impl Default for AmqpConfig {
    fn default() -> Self {
        Self {
            addresses: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 5672))],
            frame_max: 128 * KIB,
            channel_max: 2047,
            heartbeat_seconds: 60,
            handshake_timeout: Duration::from_secs(10),
            handshakes_max: 1024,
        }
    }
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            message_bytes_max: 16 * u64::from(MIB),
            table_depth_max: 64,
            table_entries_max: 65_536,
            connections_max: Some(65_536),
            connections_per_address_max: None,
            connections_per_user_max: None,
            connections_per_vhost_max: None,
            unsettled_per_channel_max: Some(1_000_000),
            outbox_bytes_max: MIB.into(),
            memory_max: MemoryMax::default(),
        }
    }
}

fn read_users(root: &mut TableReader<'_>, vhosts: &[VhostName]) -> Users {
    let mut users: Vec<User> = Vec::new();
    let mut present = false;
    for mut table in root.sections("user") {
        present = true;
        if let Some(user) = User::read(&mut table, vhosts) {
            if users.iter().any(|other| other.name == user.name) {
                table.error(format!("there is already a user '{}'", user.name));
            }
            users.push(user);
        }
        table.finish();
    }
    if present {
        Users::new(users)
    } else {
        Users::default()
    }
}

const KIB: u32 = 1024;
const MIB: u32 = 1024 * KIB;

/// AMQP 0-9-1 §4.2.3: no less than 4,096.
const FRAME_MAX: Size<u32> = Size(4 * KIB..=128 * MIB);
const MESSAGE_SIZE_MAX: Size<u64> = Size(1..=512 * 1024 * 1024);
const OUTBOX_SIZE_MAX: Size<u64> = Size(64 * 1024..=1024 * 1024 * 1024);
const HEARTBEAT: WholeSeconds = WholeSeconds(0..=u16::MAX);
const HANDSHAKE_TIMEOUT: Time = Time(RangeInclusive::new(
    Duration::from_millis(100),
    Duration::from_secs(600),
));
/// Deeper tables would risk the stack.
const TABLE_DEPTH_MAX: u8 = 128;
const WORKERS: Integer<u16> = Integer(0..=1024);

/// Frameworks compare the numbers.
const VERSION: Parsed<fn(&str) -> Option<String>> = Parsed {
    expected: "three numbers such as \"3.13.7\"",
    read: |text| {
        let numbers: Vec<&str> = text.split('.').collect();
        let valid =
            numbers.len() == 3 && numbers.iter().all(|number| number.parse::<u16>().is_ok());
        valid.then(|| text.to_owned())
    },
};
