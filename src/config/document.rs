//! A TOML file while it is read: every finding gets its line and column, and
//! reading goes on after one, so that all are reported together.
//!
//! A [`TableReader`] remembers the keys that it was asked for: what is in the
//! table and was not asked for is an unknown key, and the keys asked for are
//! what it may have been meant to be.

use std::cell::RefCell;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostic::{ConfigErrors, Diagnostic, Position, Severity};
use super::kind::Kind;

/// A value and where it stands. Two are equal if their values are.
#[derive(Clone, Copy, Debug)]
pub struct Located<T> {
    /// What.
    pub value: T,
    /// Where.
    pub position: Position,
}

/// One file: its name, its text and what was found so far.
#[derive(Debug)]
pub struct Document<'a> {
    file: &'a str,
    text: &'a str,
    line_starts: Vec<usize>,
    diagnostics: RefCell<Vec<Diagnostic>>,
}

/// Reads one table of a [`Document`], which may be absent.
#[derive(Debug)]
pub struct TableReader<'d> {
    document: &'d Document<'d>,
    table: Option<&'d DeTable<'d>>,
    /// As messages have it: `[amqp]`, or empty for the top of the file.
    name: String,
    position: Position,
    asked: Vec<&'static str>,
}

impl<T> Located<T> {
    /// The same place with another value.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Located<U> {
        Located {
            value: change(self.value),
            position: self.position,
        }
    }
}

impl<T: PartialEq> PartialEq for Located<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl<'a> Document<'a> {
    /// Parses `text`; `file` is the name that messages have.
    ///
    /// # Errors
    /// Whatever is not TOML, all of it.
    pub fn parse(
        file: &'a str,
        text: &'a str,
    ) -> Result<(Self, Spanned<DeTable<'a>>), ConfigErrors> {
        let document = Self {
            file,
            text,
            line_starts: line_starts(text),
            diagnostics: RefCell::default(),
        };
        let (root, errors) = DeTable::parse_recoverable(text);
        for error in &errors {
            let start = error.span().map_or(0, |span| span.start);
            let mut text = error.message().to_owned();
            if text == "duplicate key"
                && let Some(key) = error.span().and_then(|span| document.text.get(span))
            {
                text = format!("duplicate key '{key}'");
            }
            document.error(document.position(start), text);
        }
        if errors.is_empty() {
            Ok((document, root))
        } else {
            Err(ConfigErrors(document.into_diagnostics()))
        }
    }

    /// Reads the top of the file.
    #[must_use]
    pub fn root<'d>(&'d self, root: &'d Spanned<DeTable<'d>>) -> TableReader<'d> {
        TableReader {
            document: self,
            table: Some(root.get_ref()),
            name: String::new(),
            position: Position { line: 1, column: 1 },
            asked: Vec::new(),
        }
    }

    /// Notes an error.
    pub fn error(&self, position: Position, text: String) {
        self.note(position, Severity::Error, text);
    }

    /// Notes a warning.
    pub fn warn(&self, position: Position, text: String) {
        self.note(position, Severity::Warning, text);
    }

    /// How many errors were noted so far.
    #[must_use]
    pub fn error_count(&self) -> usize {
        let diagnostics = self.diagnostics.borrow();
        let errors = diagnostics
            .iter()
            .filter(|finding| finding.severity == Severity::Error);
        errors.count()
    }

    /// What was found, in the order of the file.
    #[must_use]
    pub fn into_diagnostics(self) -> Vec<Diagnostic> {
        let mut diagnostics = self.diagnostics.into_inner();
        diagnostics.sort_by_key(|diagnostic| diagnostic.position);
        diagnostics
    }

    /// The line and column of an offset in the text.
    #[must_use]
    pub fn position(&self, offset: usize) -> Position {
        let line = self.line_starts.partition_point(|start| *start <= offset);
        let line_start = line
            .checked_sub(1)
            .and_then(|index| self.line_starts.get(index))
            .copied()
            .unwrap_or(0);
        let before = self.text.get(line_start..offset).unwrap_or("");
        Position {
            line: line.max(1),
            column: before.chars().count() + 1,
        }
    }

    fn note(&self, position: Position, severity: Severity, text: String) {
        self.diagnostics.borrow_mut().push(Diagnostic {
            file: self.file.to_owned(),
            position: Some(position),
            severity,
            text,
        });
    }
}

impl<'d> TableReader<'d> {
    /// The value at `key`, or the default if it is absent or wrong; the latter
    /// is noted.
    pub fn read<K: Kind>(&mut self, key: &'static str, kind: K, default: K::Value) -> K::Value {
        self.optional(key, kind)
            .map_or(default, |located| located.value)
    }

    /// The value at `key` if it is there and right.
    pub fn optional<K: Kind>(&mut self, key: &'static str, kind: K) -> Option<Located<K::Value>> {
        let value = self.raw(key)?;
        let position = self.position_of(value.span());
        match kind.read(value.get_ref()) {
            Some(value) => Some(Located { value, position }),
            None => {
                let found = if kind.is_secret() {
                    format!("a {}", value.get_ref().type_str())
                } else {
                    shown(value.get_ref())
                };
                let text = format!(
                    "{}: expected {}, found {found}",
                    self.key_in_table(key),
                    kind.expected()
                );
                self.document.error(position, text);
                None
            }
        }
    }

    /// Like [`TableReader::optional`]; its absence is noted as an error.
    pub fn required<K: Kind>(&mut self, key: &'static str, kind: K) -> Option<Located<K::Value>> {
        if !self.contains(key) {
            self.asked.push(key);
            self.error(format!("{} needs a key '{key}'", self.name));
            return None;
        }
        self.optional(key, kind)
    }

    /// The value at `key` as TOML has it.
    pub fn raw(&mut self, key: &'static str) -> Option<&'d Spanned<DeValue<'d>>> {
        self.asked.push(key);
        self.table?.get(key)
    }

    /// Whether there is such a key, right or wrong.
    #[must_use]
    pub fn contains(&self, key: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(key))
    }

    /// The table `[key]`, empty if it is absent.
    pub fn section(&mut self, key: &'static str) -> TableReader<'d> {
        let value = self.raw(key);
        let table = value.and_then(|value| value.get_ref().as_table());
        let position = value.map_or(self.position, |value| self.position_of(value.span()));
        if value.is_some() && table.is_none() {
            let text = format!("'{key}': expected a table, written as [{key}]");
            self.document.error(position, text);
        }
        self.reader(table, format!("[{key}]"), position)
    }

    /// The tables `[[key]]` in order.
    pub fn sections(&mut self, key: &'static str) -> Vec<TableReader<'d>> {
        let Some(value) = self.raw(key) else {
            return Vec::new();
        };
        let mut readers = Vec::new();
        let entries = value.get_ref().as_array();
        for entry in entries.into_iter().flatten() {
            let position = self.position_of(entry.span());
            if let Some(table) = entry.get_ref().as_table() {
                readers.push(self.reader(Some(table), format!("[[{key}]]"), position));
            }
        }
        if entries.is_none_or(|entries| entries.iter().count() > readers.len()) {
            let text = format!("'{key}': expected tables, each written as [[{key}]]");
            self.document.error(self.position_of(value.span()), text);
        }
        readers
    }

    /// The entries of a table as they stand in the file.
    #[must_use]
    pub fn in_file_order(
        table: &'d DeTable<'d>,
    ) -> Vec<(
        &'d Spanned<toml::de::DeString<'d>>,
        &'d Spanned<DeValue<'d>>,
    )> {
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        entries
    }

    /// Where an offset of the file is.
    #[must_use]
    pub fn position_of(&self, span: Range<usize>) -> Position {
        self.document.position(span.start)
    }

    /// Where the table begins.
    #[must_use]
    pub fn position(&self) -> Position {
        self.position
    }

    /// The file.
    #[must_use]
    pub fn document(&self) -> &'d Document<'d> {
        self.document
    }

    /// Notes an error about the table as a whole.
    pub fn error(&self, text: String) {
        self.document.error(self.position, text);
    }

    /// How messages name a key: `'heartbeat' in [amqp]`.
    #[must_use]
    pub fn key_in_table(&self, key: &str) -> String {
        if self.name.is_empty() {
            format!("'{key}'")
        } else {
            format!("'{key}' in {}", self.name)
        }
    }

    /// Notes every key that nobody asked for.
    pub fn finish(self) {
        for (key, value) in self.table.into_iter().flatten() {
            let name = key.get_ref().as_ref();
            if self.asked.contains(&name) {
                continue;
            }
            let unknown = if self.name.is_empty() && !is_plain(value.get_ref()) {
                format!("unknown table '{name}'")
            } else {
                format!("unknown key {}", self.key_in_table(name))
            };
            let text = match did_you_mean(name, self.asked.iter().copied()) {
                Some(meant) => format!("{unknown}, did you mean '{meant}'?"),
                None => format!("{unknown}, known here are {}", self.asked.join(", ")),
            };
            self.document.error(self.position_of(key.span()), text);
        }
    }

    fn reader(
        &self,
        table: Option<&'d DeTable<'d>>,
        name: String,
        position: Position,
    ) -> TableReader<'d> {
        TableReader {
            document: self.document,
            table,
            name,
            position,
            asked: Vec::new(),
        }
    }
}

/// The candidate that `word` was probably meant to be: what people coming from
/// other configurations write, or the one with the fewest typing errors.
#[must_use]
pub fn did_you_mean<'c>(
    word: &str,
    candidates: impl Iterator<Item = &'c str> + Clone,
) -> Option<&'c str> {
    let lower = word.to_lowercase();
    let synonyms = SYNONYMS
        .iter()
        .filter(|(written, _)| *written == lower)
        .map(|(_, meant)| *meant);
    for synonym in synonyms {
        if let Some(candidate) = candidates.clone().find(|candidate| *candidate == synonym) {
            return Some(candidate);
        }
    }
    candidates
        .map(|candidate| {
            let distance = strsim::damerau_levenshtein(&lower, &candidate.to_lowercase());
            (distance, candidate)
        })
        .filter(|(distance, candidate)| {
            let letters = word.chars().count().max(candidate.chars().count());
            *distance <= (letters / 3).max(1) && *distance < letters
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// A value as messages quote it, shortened.
pub(crate) fn shown(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) if text.chars().count() > SHOWN_CHARS_MAX => {
            let start: String = text.chars().take(SHOWN_CHARS_MAX).collect();
            format!("{start:?}…")
        }
        DeValue::String(text) => format!("{text:?}"),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(datetime) => datetime.to_string(),
        DeValue::Array(values) if values.iter().next().is_none() => "an empty list".to_owned(),
        DeValue::Array(values) => {
            let values: Vec<String> = values
                .iter()
                .take(SHOWN_VALUES_MAX)
                .map(|value| shown(value.get_ref()))
                .collect();
            format!("[{}]", values.join(", "))
        }
        DeValue::Table(_) => "a table".to_owned(),
    }
}

/// Neither a table nor a list.
fn is_plain(value: &DeValue<'_>) -> bool {
    !value.is_table() && !value.is_array()
}

fn line_starts(text: &str) -> Vec<usize> {
    let after_newlines = text.match_indices('\n').map(|(offset, _)| offset + 1);
    std::iter::once(0).chain(after_newlines).collect()
}

const SHOWN_CHARS_MAX: usize = 60;
const SHOWN_VALUES_MAX: usize = 5;

/// What people write, and the key that this file has for it. A row counts only
/// in tables that have the key.
const SYNONYMS: &[(&str, &str)] = &[
    ("host", "address"),
    ("listen", "address"),
    ("listener", "address"),
    ("listeners", "address"),
    ("port", "address"),
    ("bind", "address"),
    ("alternate-exchange", "alternate"),
    ("alternate_exchange", "alternate"),
    ("args", "arguments"),
    ("binding_key", "key"),
    ("pattern", "key"),
    ("routing_key", "key"),
    ("routing_keys", "keys"),
    ("exchange", "from"),
    ("source", "from"),
    ("destination", "to_queue"),
    ("queue", "to_queue"),
    ("to", "to_queue"),
    ("x-match", "match"),
    ("x_match", "match"),
    ("kind", "type"),
    ("hash", "password_hash"),
    ("vhost", "vhosts"),
    ("vhosts", "vhost"),
    ("virtual_host", "vhost"),
    ("user", "name"),
    ("username", "name"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_lines_and_characters() {
        let text = "a = 1\n\n# é\nü = 'ß' # x\n";
        let (document, root) = Document::parse("f", "").expect("an empty file is TOML");
        assert!(root.get_ref().is_empty());
        drop(document);
        let document = Document {
            file: "f",
            text,
            line_starts: line_starts(text),
            diagnostics: RefCell::default(),
        };
        for (needle, line, column) in [("a", 1, 1), ("1", 1, 5), ("ü", 4, 1), ("x", 4, 11)] {
            let offset = text.find(needle).expect("the needle is in the text");
            assert_eq!(
                document.position(offset),
                Position { line, column },
                "{needle}"
            );
        }
        assert_eq!(
            document.position(text.len()),
            Position { line: 5, column: 1 }
        );
    }

    #[test]
    fn suggestions_are_close_or_known_synonyms() {
        let keys = ["address", "frame_max", "channel_max", "heartbeat"];
        for (written, meant) in [
            ("adress", Some("address")),
            ("Address", Some("address")),
            ("port", Some("address")),
            ("heart_beat", Some("heartbeat")),
            ("framemax", Some("frame_max")),
            ("colour", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(did_you_mean(written, keys.into_iter()), meant, "{written}");
        }
    }
}
