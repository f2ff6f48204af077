//! `leveret check`: what a file says, without serving it.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::config::{ConfigErrors, Severity};
use crate::topology::BrokerFile;

/// Checks a file.
#[derive(Clone, Debug, clap::Args)]
pub struct CheckArgs {
    /// The file.
    pub file: PathBuf,

    /// Fail on warnings too.
    #[arg(long)]
    pub strict: bool,
}

/// Prints each finding as `file:line:column: error|warning: text`, then what
/// there is. Fails on errors, and on warnings if it should.
///
/// # Errors
/// None; what is wrong with the file is the output.
pub fn run(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let (findings, summary) = match BrokerFile::load(&args.file) {
        Ok(file) => (file.warnings.clone(), summary(&file)),
        Err(ConfigErrors(findings)) => (findings, "refused".to_owned()),
    };
    for finding in &findings {
        println!("{}", finding.with_severity());
    }
    let count = |severity| {
        findings
            .iter()
            .filter(|finding| finding.severity == severity)
            .count()
    };
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    println!(
        "{}: {summary}, {}, {}",
        args.file.display(),
        counted(errors, "error"),
        counted(warnings, "warning")
    );
    let passed = errors == 0 && (warnings == 0 || !args.strict);
    Ok(if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn summary(file: &BrokerFile) -> String {
    let topology = &file.topology;
    let policies = &topology.rulebook.policies;
    let mut parts = vec![
        counted(topology.exchanges.len(), "exchange"),
        counted(topology.queues.len(), "queue"),
        counted(topology.bindings.len(), "binding"),
        counted(file.config.users.iter().count(), "user"),
    ];
    match policies.user.len() + policies.operator.len() {
        0 => {}
        1 => parts.push("1 policy".to_owned()),
        count => parts.push(format!("{count} policies")),
    }
    parts.join(", ")
}

fn counted(count: usize, what: &str) -> String {
    match count {
        0 => format!("no {what}s"),
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    }
}
