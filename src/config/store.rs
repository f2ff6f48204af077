//! `[store]`, and how much memory the process may use.

use std::time::Duration;

use toml::de::DeValue;

use crate::model::Fsync;

use super::document::TableReader;
use super::kind::{Kind, Size};
use crate::model::{format_duration, format_size, parse_duration, parse_size};

/// How messages and definitions are kept.
#[derive(Clone, Debug, PartialEq)]
pub struct StoreConfig {
    /// When the log is flushed to the disk.
    pub fsync: Fsync,
    /// Octets of the write-ahead log.
    pub log_bytes: u64,
    /// Octets of a segment file.
    pub segment_bytes: u64,
    /// Octets of waiting messages that are kept in memory, in all queues.
    pub hot_bytes: u64,
    /// Free octets of the file system below which publishers are blocked;
    /// `None` depends on its size.
    pub disk_free_min: Option<u64>,
}

impl std::fmt::Display for Fsync {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Always => f.write_str("always"),
            Self::Interval(interval) => write!(f, "interval {}", format_duration(*interval)),
            Self::Never => f.write_str("never"),
        }
    }
}

/// The process's memory from which publishers are blocked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MemoryMax {
    /// That many hundredths of what the machine or the container has.
    Percent(u8),
    /// Octets.
    Bytes(u64),
    /// They are not.
    Unlimited,
}

/// `"always"`, `"interval 50ms"` or `"never"`.
#[derive(Clone, Copy, Debug)]
struct FsyncKind;

/// `"auto"`, which is `None`, or a size.
#[derive(Clone, Copy, Debug)]
struct SizeOrAuto;

/// `"40%"`, a size or `"unlimited"`.
#[derive(Clone, Copy, Debug)]
pub(super) struct MemoryMaxKind;

impl StoreConfig {
    pub(super) fn read(mut table: TableReader<'_>) -> Self {
        let default = Self::default();
        let config = Self {
            fsync: table.read("fsync", FsyncKind, default.fsync),
            log_bytes: table.read("log_size", LOG_SIZE, default.log_bytes),
            segment_bytes: table.read("segment_size", SEGMENT_SIZE, default.segment_bytes),
            hot_bytes: table.read("hot_size", HOT_SIZE, default.hot_bytes),
            disk_free_min: table.read("disk_free_min", SizeOrAuto, default.disk_free_min),
        };
        table.finish();
        config
    }
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            fsync: Fsync::default(),
            log_bytes: 256 * MIB,
            segment_bytes: 16 * MIB,
            hot_bytes: 48 * MIB,
            disk_free_min: None,
        }
    }
}

impl Default for MemoryMax {
    fn default() -> Self {
        Self::Percent(40)
    }
}

impl Kind for FsyncKind {
    type Value = Fsync;

    fn expected(&self) -> String {
        format!(
            "\"always\", \"never\", or \"interval\" with a duration from \"{}\" to \"{}\" as in \
             \"interval 50ms\"",
            format_duration(INTERVAL_MIN),
            format_duration(INTERVAL_MAX)
        )
    }

    fn read(&self, value: &DeValue<'_>) -> Option<Fsync> {
        match value.as_str()? {
            "always" => Some(Fsync::Always),
            "never" => Some(Fsync::Never),
            text => {
                let interval = parse_duration(text.strip_prefix("interval ")?.trim_start())?;
                let fits = (INTERVAL_MIN..=INTERVAL_MAX).contains(&interval);
                fits.then_some(Fsync::Interval(interval))
            }
        }
    }
}

impl Kind for SizeOrAuto {
    type Value = Option<u64>;

    fn expected(&self) -> String {
        "\"auto\" or a size such as \"2GiB\"".to_owned()
    }

    fn read(&self, value: &DeValue<'_>) -> Option<Option<u64>> {
        match value.as_str()? {
            "auto" => Some(None),
            text => parse_size(text).map(Some),
        }
    }
}

impl Kind for MemoryMaxKind {
    type Value = MemoryMax;

    fn expected(&self) -> String {
        format!(
            "a share such as \"40%\", a size from \"{}\" to \"{}\", or \"unlimited\"",
            format_size(MEMORY_MIN),
            format_size(MEMORY_MAX)
        )
    }

    fn read(&self, value: &DeValue<'_>) -> Option<MemoryMax> {
        let text = value.as_str()?;
        if text == "unlimited" {
            return Some(MemoryMax::Unlimited);
        }
        if let Some(percent) = text.strip_suffix('%') {
            let percent: u8 = percent.trim_end().parse().ok()?;
            return (1..=100)
                .contains(&percent)
                .then_some(MemoryMax::Percent(percent));
        }
        let bytes = parse_size(text)?;
        let fits = (MEMORY_MIN..=MEMORY_MAX).contains(&bytes);
        fits.then_some(MemoryMax::Bytes(bytes))
    }
}

const MIB: u64 = 1024 * 1024;
const TIB: u64 = 1024 * 1024 * MIB;

const LOG_SIZE: Size<u64> = Size(16 * MIB..=TIB);
const SEGMENT_SIZE: Size<u64> = Size(MIB..=256 * MIB);
const HOT_SIZE: Size<u64> = Size(MIB..=TIB);
const INTERVAL_MIN: Duration = Duration::from_millis(1);
const INTERVAL_MAX: Duration = Duration::from_secs(60);
/// A broker without a single message needs about half of this.
const MEMORY_MIN: u64 = 16 * MIB;
const MEMORY_MAX: u64 = 1024 * TIB;
