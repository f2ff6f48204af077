//! The progress bar, if there is somebody to see it.

use std::io::{IsTerminal, stderr};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A bar on standard error; none if that is no terminal.
#[derive(Debug)]
pub struct Progress(Option<ProgressBar>);

impl Progress {
    /// A bar of that length; 0 if nobody knows.
    pub fn new(length: u64) -> Self {
        let bar = stderr().is_terminal().then(|| {
            let template = match length {
                0 => "{elapsed:>4} {spinner} {msg}",
                _ => "{elapsed:>4} {wide_bar} {msg}",
            };
            let style = ProgressStyle::with_template(template)
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::new(length).with_style(style)
        });
        Self(bar)
    }

    /// Shows how far the run has come, and what moved since the last time.
    pub fn show(&self, position: u64, published: u64, consumed: u64, elapsed: Duration) {
        if let Some(bar) = &self.0 {
            let per_second = |count: u64| count as f64 / elapsed.as_secs_f64().max(1e-9);
            bar.set_position(position);
            bar.set_message(format!(
                "{:.0} published/s, {:.0} consumed/s",
                per_second(published),
                per_second(consumed)
            ));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
