//! `leveret inspect`: what is in the data directory of a stopped broker.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::store::{self, Inspection};

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
            let (saved, lost) = (repaired.saved, repaired.lost);
            println!(
                "{saved} messages saved into {}, {lost} lost",
                target.display()
            );
            if repaired.renamed {
                println!("the definitions cannot be read: queues are called recovered-<id>");
            }
        }
        return Ok(ExitCode::SUCCESS);
    }
    let inspection = store::inspect(&args.directory, args.verify)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&inspection)?);
    } else {
        print(&inspection, args.verify);
    }
    let damaged = !inspection.damages.is_empty() || inspection.definitions_error.is_some();
    Ok(if args.verify && damaged {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn print(inspection: &Inspection, verified: bool) {
    println!("{:>14} {:>9} {:>10}  file", "bytes", "records", "messages");
    for file in &inspection.files {
        let (records, messages) = if file.records > 0 {
            (file.records.to_string(), file.messages.to_string())
        } else {
            (String::new(), String::new())
        };
        println!(
            "{:>14} {records:>9} {messages:>10}  {}",
            file.bytes, file.name
        );
    }
    println!();
    println!(
        "{:>8} {:>12} {:>12} {:>12} {:>12} {:>12}  queue",
        "id", "messages", "in log", "in segments", "oldest", "next"
    );
    for queue in &inspection.queues {
        let oldest = queue.oldest.map(|place| place.to_string());
        let name = match (&queue.vhost, &queue.name) {
            (Some(vhost), Some(name)) => format!("{name:?} in vhost {vhost:?}"),
            _ => "unknown".to_owned(),
        };
        println!(
            "{:>8} {:>12} {:>12} {:>12} {:>12} {:>12}  {name}",
            queue.id,
            queue.messages,
            queue.in_log,
            queue.in_segments,
            oldest.unwrap_or_default(),
            queue.next
        );
    }
    println!();
    if let Some(error) = &inspection.definitions_error {
        println!("the definitions cannot be read: {error}");
    }
    for damage in &inspection.damages {
        let (file, offset, bytes) = (&damage.file, damage.offset, damage.bytes);
        println!(
            "{file}: {bytes} octets from {offset} on: {}",
            damage.meaning
        );
    }
    let ended = if inspection.clean {
        "the broker ended as it should"
    } else {
        "the broker was killed, or never ran"
    };
    let checked = match (verified, inspection.damages.is_empty()) {
        (_, false) => "damage was found",
        (true, true) => "every message is whole",
        (false, true) => "no damage in what was read; --verify reads every message",
    };
    println!("{ended}; {checked}");
}
