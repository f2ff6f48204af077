//! How many sockets this process may have open.

use anyhow::{Context, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit so far that `sockets` of them fit beside what else is open.
///
/// # Errors
/// If the hard limit is below that.
pub fn allow(sockets: u64) -> anyhow::Result<()> {
    let wanted = sockets.saturating_add(OTHERS);
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    ensure!(
        maximum.is_none_or(|maximum| maximum >= wanted),
        "{sockets} connections want {wanted} open files, the hard limit is {} (ulimit -Hn)",
        maximum.unwrap_or_default()
    );
    let raised = Rlimit {
        current: Some(wanted),
        maximum,
    };
    setrlimit(Resource::Nofile, raised).context("cannot raise the limit of open files")
}

/// The standard streams, other connections.
const OTHERS: u64 = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_allowed_already_changes_nothing() {
        let before = getrlimit(Resource::Nofile);
        allow(1).expect("a hundred files are allowed everywhere");
        assert_eq!(getrlimit(Resource::Nofile), before);
    }

    #[test]
    fn more_than_the_hard_limit_is_refused() {
        let refused = allow(u64::MAX).map_err(|error| error.to_string());
        match getrlimit(Resource::Nofile).maximum {
            Some(_) => assert!(refused.is_err_and(|text| text.contains("hard limit"))),
            None => assert!(refused.is_ok()),
        }
    }
}
