//! What a command leaves behind: text for stdout, words for stderr, an exit code.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use serde::Serialize;

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Lines for people
    #[default]
    Human,
    /// One JSON document
    Json,
}

/// What a command leaves behind.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// For stdout.
    pub(crate) out: String,
    /// For stderr.
    pub(crate) aside: String,
    /// 0: fine; 1: what was asked about is not fine.
    pub(crate) code: u8,
}

impl Outcome {
    /// Prints it. A reader that closed its end early is content with what it got.
    pub(crate) fn deliver(self) -> io::Result<ExitCode> {
        io::stderr().lock().write_all(self.aside.as_bytes())?;
        let mut stdout = io::stdout().lock();
        match stdout.write_all(self.out.as_bytes()).and_then(|()| stdout.flush()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
            Ok(()) | Err(_) => Ok(ExitCode::from(self.code)),
        }
    }
}

/// A value as a JSON document that ends with a line break.
pub(crate) fn json(value: &impl Serialize) -> String {
    let text = serde_json::to_string_pretty(value).expect("results have string keys and no failing serializer");
    format!("{text}\n")
}

/// `1 Host`, `2 Hosts`; `Policy` becomes `Policies`.
pub(crate) fn count(number: usize, noun: &str) -> String {
    match (number, noun.strip_suffix('y')) {
        (1, _) => format!("1 {noun}"),
        (_, Some(stem)) if !noun.ends_with("ey") => format!("{number} {stem}ies"),
        (_, _) => format!("{number} {noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::count;

    #[test]
    fn numbers_agree_with_their_nouns() {
        assert_eq!(count(1, "Policy"), "1 Policy");
        assert_eq!(count(2, "Policy"), "2 Policies");
        assert_eq!(count(0, "RelayKey"), "0 RelayKeys");
    }
}
