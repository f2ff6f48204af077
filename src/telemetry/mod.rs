//! The log: lines on standard error, for people or for machines.

use std::io::{IsTerminal, Write};

use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;

use crate::config::{LogConfig, LogFilter, LogFormat};

/// Starts the log of this process.
///
/// # Errors
/// If the process has one already.
pub fn init(config: &LogConfig) -> anyhow::Result<()> {
    let layer = layer(
        config.format,
        std::io::stderr,
        std::io::stderr().is_terminal(),
    );
    let subscriber = tracing_subscriber::registry().with(layer.with_filter(targets(&config.level)));
    tracing::subscriber::set_global_default(subscriber)?;
    Ok(())
}

/// Lines in that format, coloured if a person reads them on a terminal.
fn layer<S, W>(format: LogFormat, writer: W, colour: bool) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'w> MakeWriter<'w, Writer: Write> + Send + Sync + 'static,
{
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(writer)
        .with_ansi(colour);
    match format {
        LogFormat::Text => layer.boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    }
}

fn targets(filter: &LogFilter) -> Targets {
    // A LogFilter is checked when it is read, so the default never applies.
    filter.as_str().parse().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Write for Captured {
        fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
            self.0.lock().extend_from_slice(octets);
            Ok(octets.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, level: &str) -> String {
        let captured = Captured::default();
        let writer = captured.clone();
        let layer = layer(format, move || writer.clone(), false);
        let filter = targets(&level.parse().expect("a filter"));
        let subscriber = tracing_subscriber::registry().with(layer.with_filter(filter));
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(peer = "127.0.0.1:4711", user = "guest", "connection opened");
            tracing::debug!("a detail");
        });
        let octets = captured.0.lock().clone();
        String::from_utf8(octets).expect("lines of text")
    }

    #[test]
    fn text_lines_are_for_people() {
        let text = logged(LogFormat::Text, "info");
        let end = " INFO leveret::telemetry::tests: connection opened \
                   peer=\"127.0.0.1:4711\" user=\"guest\"\n";
        assert!(text.ends_with(end), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    }

    #[test]
    fn json_lines_are_objects() {
        let text = logged(LogFormat::Json, "info");
        let line: serde_json::Value = serde_json::from_str(&text).expect("one object");
        for (key, value) in [
            ("level", "INFO"),
            ("message", "connection opened"),
            ("peer", "127.0.0.1:4711"),
            ("user", "guest"),
            ("target", "leveret::telemetry::tests"),
        ] {
            assert_eq!(line[key], value, "{text}");
        }
    }

    #[test]
    fn filters_choose_by_level_and_part() {
        for (filter, lines) in [
            ("debug", 2),
            ("info", 1),
            ("warn", 0),
            ("off", 0),
            ("off,leveret::telemetry=debug", 2),
            ("debug,leveret=off", 0),
        ] {
            assert_eq!(
                logged(LogFormat::Text, filter).lines().count(),
                lines,
                "{filter}"
            );
        }
    }
}
