//! `leveret inspect`: what is in the data directory of a stopped broker.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::store::{
    self, DamageSummary, FileSummary, Inspection, PlaceRange, QueueSummary, Repaired,
};

/// Looks into a stopped broker's data directory and changes nothing in it.
#[derive(Clone, Debug, clap::Args)]
pub struct InspectArgs {
    /// The data directory.
    pub directory: PathBuf,

    /// Read every message and compare its checksum; fail if anything is damaged.
    #[arg(long)]
    pub verify: bool,

    /// Write what can be saved into this new directory, for a broker to start on.
    #[arg(long, value_name = "DIR", conflicts_with = "verify")]
    pub repair: Option<PathBuf>,

    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Prints what is there. Fails on damage if it was asked to verify.
///
/// # Errors
/// If the directory cannot be read, is in use, or what is saved cannot be
/// written.
pub fn run(args: &InspectArgs) -> anyhow::Result<ExitCode> {
    if let Some(target) = &args.repair {
        let repaired = store::repair(&args.directory, target)?;
        if args.json {
            println!("{}", serde_json::to_string_pretty(&repaired)?);
        } else {
            print_repaired(&repaired, target);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let inspection = store::inspect(&args.directory, args.verify)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&inspection)?);
    } else {
        print(&inspection);
    }
    let damaged = !inspection.damages.is_empty() || inspection.definitions_error.is_some();
    Ok(if args.verify && damaged {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn print(inspection: &Inspection) {
    println!("{:>14}  {:<52} content", "bytes", "file");
    for file in &inspection.files {
        let line = format!("{:>14}  {:<52} {}", file.bytes, file.name, content(file));
        println!("{}", line.trim_end());
    }
    println!();
    match (&inspection.definitions, &inspection.definitions_error) {
        (Some(found), _) => println!(
            "definitions: {}, {}, {}, {}",
            counted(found.vhosts as u64, "vhost"),
            counted(found.exchanges as u64, "exchange"),
            counted(found.queues as u64, "queue"),
            counted(found.bindings as u64, "binding")
        ),
        (None, error) => println!(
            "the definitions cannot be read: {}",
            error.as_deref().unwrap_or("no cause is known")
        ),
    }
    println!();
    print_queues(&inspection.queues);
    print_damages(&inspection.damages);
    for warning in &inspection.warnings {
        println!("warning: {warning}");
    }
    let ended = if inspection.clean {
        "the broker ended as it should"
    } else {
        "the broker was killed, or the end of the log is damaged"
    };
    let checked = match (inspection.verified, inspection.damages.is_empty()) {
        (_, false) => "damage was found",
        (true, true) => "every message is whole",
        (false, true) => "no damage in what was read; --verify reads every message",
    };
    println!("{ended}; {checked}");
}

fn content(file: &FileSummary) -> String {
    if let Some(log) = &file.log {
        let (Some(first), Some(last)) = (log.first_index, log.last_index) else {
            return "no records".to_owned();
        };
        return format!(
            "records {first} to {last}: {} with {}, {} with settlements, {}",
            log.message_records,
            counted(log.messages, "message"),
            log.settlement_records,
            counted(log.checkpoint_records, "checkpoint")
        );
    }
    if let Some(segment) = &file.segment {
        let places = match (segment.first, segment.end) {
            (Some(first), Some(end)) => format!(", places {first} to {}", end.saturating_sub(1)),
            _ => String::new(),
        };
        return format!(
            "queue {}: {} in {}{places}",
            segment.queue,
            counted(segment.messages, "message"),
            counted(segment.pages, "page")
        );
    }
    String::new()
}

fn print_queues(queues: &[QueueSummary]) {
    println!(
        "{:>8} {:>12} {:>12} {:>12} {:>12} {:>19} {:>12} {:>12} {:>8} {:>9} {:>8}  queue",
        "id",
        "messages",
        "in log",
        "in segments",
        "oldest",
        "arrived (UTC)",
        "next",
        "settled",
        "ranges",
        "returned",
        "due"
    );
    for queue in queues {
        let oldest = queue.oldest.map(|place| place.to_string());
        println!(
            "{:>8} {:>12} {:>12} {:>12} {:>12} {:>19} {:>12} {:>12} {:>8} {:>9} {:>8}  {}",
            queue.id,
            queue.messages,
            queue.in_log,
            queue.in_segments,
            oldest.unwrap_or_default(),
            queue.oldest_arrived.map(utc).unwrap_or_default(),
            queue.next,
            queue.settled,
            queue.settled_ranges,
            queue.returned,
            queue.returned_due,
            label(queue)
        );
    }
    println!();
    for queue in queues.iter().filter(|queue| queue.unaccounted > 0) {
        let places = places(&queue.unaccounted_places);
        println!("{}", unaccounted(&label(queue), queue.unaccounted, &places));
    }
}

/// A moment given in milliseconds since 1970, to the second.
fn utc(millis: u64) -> String {
    let seconds = millis / 1_000;
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Years begin in March, so that the day that some of them have more is their
    // last; 400 of them have always the same number of days.
    let since_0000 = days + 719_468;
    let (era, day) = (since_0000 / 146_097, since_0000 % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + u64::from(month < 3);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

fn label(queue: &QueueSummary) -> String {
    match (&queue.vhost, &queue.name) {
        (Some(vhost), Some(name)) => format!("{name:?} in vhost {vhost:?}"),
        _ => "unknown".to_owned(),
    }
}

fn unaccounted(queue: &str, count: u64, places: &str) -> String {
    format!(
        "{queue}: neither settled nor there, so not persistent or lost: {}, {places}",
        counted(count, "place")
    )
}

fn print_damages(damages: &[DamageSummary]) {
    for damage in damages {
        println!(
            "{}: damaged from octet {} on, {}: {}",
            damage.file,
            damage.offset,
            counted(damage.bytes, "octet"),
            damage.cost
        );
    }
}

fn print_repaired(repaired: &Repaired, target: &Path) {
    print_damages(&repaired.damages);
    for queue in &repaired.queues {
        let label = format!("{:?} in vhost {:?}", queue.name, queue.vhost);
        println!("{label}: {} saved", counted(queue.saved, "message"));
        if queue.lost > 0 {
            let places = places(&queue.lost_places);
            println!("{label}: {} lost, {places}", counted(queue.lost, "message"));
        }
        if queue.unaccounted > 0 {
            let places = places(&queue.unaccounted_places);
            println!("{}", unaccounted(&label, queue.unaccounted, &places));
        }
    }
    if repaired.renamed {
        println!("the definitions cannot be read: queues are called recovered-<id>");
    }
    println!(
        "{} saved into {}, {} lost, {} unaccounted for",
        counted(repaired.saved, "message"),
        target.display(),
        repaired.lost,
        repaired.unaccounted
    );
}

/// Places as ranges, a few of them.
fn places(ranges: &[PlaceRange]) -> String {
    let text = |range: &PlaceRange| match range.count {
        1 => range.first.to_string(),
        count => format!(
            "{} to {}",
            range.first,
            range.first.saturating_add(count - 1)
        ),
    };
    let mut texts: Vec<String> = ranges.iter().take(RANGES_SHOWN).map(text).collect();
    if ranges.len() > RANGES_SHOWN {
        texts.push("…".to_owned());
    }
    texts.join(", ")
}

fn counted(count: u64, what: &str) -> String {
    match count {
        0 => format!("no {what}s"),
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    }
}

/// Ranges in one line.
const RANGES_SHOWN: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_dates() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00"),
            (951_782_399, "2000-02-28 23:59:59"),
            (951_782_400, "2000-02-29 00:00:00"),
            (1_700_000_000, "2023-11-14 22:13:20"),
            (1_709_251_200, "2024-03-01 00:00:00"),
            (4_107_542_400, "2100-03-01 00:00:00"),
        ] {
            assert_eq!(utc(seconds * 1_000), text);
        }
        utc(u64::MAX);
    }
}
