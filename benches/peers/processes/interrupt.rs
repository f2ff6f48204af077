//! Ctrl-C: whoever waits looks here, gives up, and drops what he has started.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::bail;
use tokio::signal::unix::{SignalKind, signal};

use super::POLL;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Takes note of SIGINT and SIGTERM from now on; the second one ends the suite at
/// once, and the system its children.
///
/// # Errors
/// If the system gives no thread or takes no handler.
pub fn watch() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (mut interrupt, mut terminate) = {
        let _inside = runtime.enter();
        (
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
        )
    };
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            runtime.block_on(async {
                loop {
                    tokio::select! {
                        _ = interrupt.recv() => {}
                        _ = terminate.recv() => {}
                    }
                    if INTERRUPTED.swap(true, Ordering::Relaxed) {
                        std::process::exit(EXIT_CODE);
                    }
                }
            });
        })?;
    Ok(())
}

/// Whether the suite is to end.
pub fn raised() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// # Errors
/// If the suite is to end.
pub fn check() -> anyhow::Result<()> {
    if raised() {
        bail!("interrupted");
    }
    Ok(())
}

/// Sleeps for so long, or until the suite is to end.
pub fn sleep(time: Duration) {
    let until = Instant::now() + time;
    while !raised() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        std::thread::sleep(left.min(POLL));
    }
}

/// What shells say of a program that SIGINT has ended.
const EXIT_CODE: i32 = 130;
