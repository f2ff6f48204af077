//! What is wrong with a file, and where.

use std::fmt;

/// A place in a file, both counted from 1; the column in characters.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Position {
    /// Which line.
    pub line: usize,
    /// Which character of the line.
    pub column: usize,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Severity {
    /// The file cannot be used.
    Error,
    /// Legal, and probably not what was meant.
    Warning,
}

/// One finding about a file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Diagnostic {
    /// The file as the operator named it.
    pub file: String,
    /// Where; `None` if it is about the file as a whole.
    pub position: Option<Position>,
    /// How bad.
    pub severity: Severity,
    /// What, with names in quotes and no full stop.
    pub text: String,
}

/// Why a file was refused: all findings in the order of the file, at least one
/// of them an error. Shows the errors, one per line.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConfigErrors(pub Vec<Diagnostic>);

impl Diagnostic {
    /// The form that compilers use: `file:line:column: error: text`.
    #[must_use]
    pub fn with_severity(&self) -> String {
        format!("{}: {}: {}", self.place(), self.severity, self.text)
    }

    fn place(&self) -> String {
        match self.position {
            Some(Position { line, column }) => format!("{}:{line}:{column}", self.file),
            None => self.file.clone(),
        }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place(), self.text)
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let errors = self
            .0
            .iter()
            .filter(|finding| finding.severity == Severity::Error);
        let lines: Vec<String> = errors.map(Diagnostic::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for ConfigErrors {}
